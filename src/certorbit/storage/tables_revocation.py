"""The tables of revocation: lists as they were downloaded, and what they say of our versions."""

from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from certorbit.storage.tables import key_column, metadata, text_column
from certorbit.storage.types import JSONText, StoredText, UTCDateTime

AT_ONCE: Final = datetime(2000, 1, 1, tzinfo=UTC)  # a `look_at` before every other one that is due

# One row per list: an issuer's at a URL. `der` is last: a row is read past it without touching its pages.
crls = sa.Table(
    "crls",
    metadata,
    key_column("url"),
    key_column("issuer_id"),
    text_column("etag"),
    text_column("last_modified"),
    text_column("number", nullable=True),  # up to 20 octets (RFC 5280 §5.2.3), which no integer column holds
    sa.Column("this_update", UTCDateTime, nullable=True),
    sa.Column("next_update", UTCDateTime, nullable=True),
    sa.Column("fetched_at", UTCDateTime, nullable=True),
    sa.Column("next_fetch_at", UTCDateTime, nullable=False, index=True),
    sa.Column("failures", sa.Integer, nullable=False),
    text_column("problem"),
    text_column("digest"),
    sa.Column("der", sa.LargeBinary, nullable=True),
)

# One row per version that can be revoked, from the version's first moment.
verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("version_id", StoredText, sa.ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True),
    text_column("state"),
    text_column("reason"),
    sa.Column("revoked_at", UTCDateTime, nullable=True),
    sa.Column("checked_at", UTCDateTime, nullable=True),
    sa.Column("valid_until", UTCDateTime, nullable=True),
    sa.Column("sources", JSONText, nullable=False),
    sa.Column("problems", JSONText, nullable=False),
    sa.Column("look_at", UTCDateTime, nullable=True, index=True),  # when the look comes to it; None: never
)
# Few of many: every list of certificates asks for them.
sa.Index(
    "ix_verdicts_revoked",
    verdicts.c.version_id,
    sqlite_where=verdicts.c.state == "revoked",
    postgresql_where=verdicts.c.state == "revoked",
)

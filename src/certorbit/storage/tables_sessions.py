"""The table of people's sessions, in the metadata of `tables.py`."""

import sqlalchemy as sa

from certorbit.storage.tables import key_column, metadata, text_column
from certorbit.storage.types import JSONText, UTCDateTime

sessions = sa.Table(
    "sessions",
    metadata,
    key_column("digest"),
    text_column("id"),
    text_column("state_digest"),
    text_column("rules_digest"),
    text_column("subject"),
    text_column("name"),
    text_column("email"),
    text_column("role"),
    sa.Column("may_export_keys", sa.Boolean, nullable=False),
    sa.Column("configurations", JSONText, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("expires_at", UTCDateTime, nullable=False, index=True),
    sa.Column("last_seen_at", UTCDateTime, nullable=False),
    sa.UniqueConstraint("state_digest"),
)

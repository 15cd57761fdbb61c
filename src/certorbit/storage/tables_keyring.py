"""The table of key-encryption keys, in the metadata of `tables.py`. A key is never in it as it is, only wrapped."""

import sqlalchemy as sa

from certorbit.storage.tables import key_column, metadata, text_column
from certorbit.storage.types import UTCDateTime

key_encryption_keys = sa.Table(
    "key_encryption_keys",
    metadata,
    key_column(),
    text_column("provider"),
    text_column("wrapping_key"),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("retired_at", UTCDateTime, nullable=True),
)

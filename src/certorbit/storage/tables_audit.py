"""The tables of the audit trail, in the metadata of `tables.py`: the records, and the chain's two ends."""

import sqlalchemy as sa

from certorbit.storage.tables import key_column, metadata, text_column
from certorbit.storage.types import JSONText, UTCDateTime

# `number`, `previous_hash` and `hash` are null until the record is sealed; an index finds those.
audit_records = sa.Table(
    "audit_records",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("number", sa.BigInteger, nullable=True),
    text_column("previous_hash", nullable=True),
    text_column("hash", nullable=True),
    sa.Column("at", UTCDateTime, nullable=False, index=True),
    text_column("actor_kind"),
    text_column("actor_name"),
    text_column("key_id"),
    text_column("role"),
    text_column("address"),
    text_column("method"),
    text_column("route"),
    text_column("request_id"),
    text_column("action"),
    text_column("config"),
    sa.Column("objects", JSONText, nullable=False),
    text_column("operation"),
    sa.Column("changes", JSONText, nullable=False),
    sa.Column("details", JSONText, nullable=False),
    sa.Index("ix_audit_records_number", "number", unique=True),
    sa.Index("ix_audit_records_config", "config", "id"),
)

audit_chains = sa.Table(
    "audit_chains",
    metadata,
    key_column("name"),
    sa.Column("number", sa.BigInteger, nullable=False),
    text_column("hash"),
    sa.Column("anchor_number", sa.BigInteger, nullable=False),
    text_column("anchor_hash"),
)

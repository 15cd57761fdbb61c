"""All tables, as data. The migrations make them; a test compares both.

Names differ from those of DBOS, whose tables live in the same SQLite file (engine.md). Sealed keys are envelopes of
the keyring, never plain. Operations and the order ledger hold plain ids, not foreign keys: they outlive their entry.
The tables of deployment are in `tables_deployment.py`.
"""

import sqlalchemy as sa

from certorbit.storage.types import JSONText, StoredText, UTCDateTime

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def text_column(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, StoredText, nullable=nullable)


def key_column(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, StoredText, primary_key=True)


configurations = sa.Table(
    "configurations",
    metadata,
    key_column(),
    text_column("description"),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("date", UTCDateTime, nullable=False),
)

# What each change of a configuration changed. No foreign key: it is written after an update of the configuration's
# row, in the same transaction, and configurations are never deleted.
configuration_versions = sa.Table(
    "configuration_versions",
    metadata,
    key_column("config"),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("changed_at", UTCDateTime, nullable=False),
    text_column("changed_by"),
    sa.Column("changes", JSONText, nullable=False),
)

entries = sa.Table(
    "entries",
    metadata,
    key_column("uid"),
    sa.Column("config", StoredText, sa.ForeignKey("configurations.id"), nullable=False),
    text_column("id"),
    text_column("side"),
    text_column("source"),
    sa.Column("le_auto_renew", sa.Boolean, nullable=False),
    sa.Column("le_auto_replace", sa.Boolean, nullable=False),
    sa.Column("identifiers", JSONText, nullable=False),
    sa.Column("provider_links", JSONText, nullable=False),
    sa.Column("crl", JSONText, nullable=False),
    text_column("input_digest"),
    sa.Column("uploaded", UTCDateTime, nullable=False),
    # No foreign key: entry and version would point at each other. `Entries.add_version` writes both.
    text_column("current_version", nullable=True),
    sa.Column("due_at", UTCDateTime, nullable=True, index=True),  # when the sweep looks next; None: never
    sa.UniqueConstraint("config", "id"),
)

versions = sa.Table(
    "versions",
    metadata,
    key_column(),
    sa.Column("entry_uid", StoredText, sa.ForeignKey("entries.uid", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("created_at", UTCDateTime, nullable=False),
    text_column("source"),
    text_column("chain_pem"),
    sa.Column("sealed_key", sa.LargeBinary, nullable=True),
    text_column("le_hash"),
    text_column("issuer_name"),
    # The facts of the leaf (model/material.py), read once.
    text_column("subject"),
    text_column("issuer"),
    sa.Column("san", JSONText, nullable=False),
    sa.Column("not_before", UTCDateTime, nullable=False),
    sa.Column("not_after", UTCDateTime, nullable=False),
    text_column("serial"),
    sa.Column("cdp", JSONText, nullable=False),
    text_column("fingerprint"),
    text_column("public_key_sha256"),
    text_column("key_algorithm"),
    text_column("authority_key_id"),
    sa.Column("is_ca", sa.Boolean, nullable=False),
)

# What was decided at the last look; `entries.due_at` says when the next one is.
renewals = sa.Table(
    "renewals",
    metadata,
    sa.Column("entry_uid", StoredText, sa.ForeignKey("entries.uid", ondelete="CASCADE"), primary_key=True),
    sa.Column("renew_at", UTCDateTime, nullable=True, index=True),
    text_column("reason"),
    sa.Column("info", JSONText, nullable=True),
    sa.Column("paused", sa.Boolean, nullable=False),
    text_column("issuer"),
    sa.Column("predecessor_not_before", UTCDateTime, nullable=True),
)

# One row per periodic job of the cluster: whoever moves `next_at` on has the turn.
sweeps = sa.Table(
    "sweeps",
    metadata,
    key_column("name"),
    sa.Column("next_at", UTCDateTime, nullable=False),
)

operations = sa.Table(
    "operations",
    metadata,
    key_column(),
    text_column("kind"),
    text_column("config"),
    text_column("entry_id"),
    text_column("entry_uid"),
    sa.Column("identifiers", JSONText, nullable=False),
    text_column("state"),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("promised", sa.Boolean, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("updated_at", UTCDateTime, nullable=False),
    sa.Column("finished_at", UTCDateTime, nullable=True),
    sa.Column("next_attempt_at", UTCDateTime, nullable=True),
    text_column("issuer_name"),
    sa.Column("problem", JSONText, nullable=True),
    sa.Column("lane", StoredText, nullable=False, server_default="issuance"),  # follows from the kind
    sa.Column("overtaken", JSONText, nullable=True),  # None: none
    sa.Index("ix_operations_created_at_id", "created_at", "id"),
    sa.Index("ix_operations_config_entry_id_created_at", "config", "entry_id", "created_at"),
)

UNFINISHED = ("queued", "running", "waiting")
# ports/store.py: an entry has at most one unfinished operation per lane. The index holds it against two writers.
sa.Index(
    "uq_operations_unfinished",
    operations.c.entry_uid,
    operations.c.lane,
    unique=True,
    sqlite_where=operations.c.state.in_(UNFINISHED),
    postgresql_where=operations.c.state.in_(UNFINISHED),
)

order_intents = sa.Table(
    "order_intents",
    metadata,
    key_column(),
    text_column("operation"),
    sa.Column("attempt", sa.Integer, nullable=False),
    text_column("issuer_name"),
    text_column("account"),
    sa.Column("identifiers", JSONText, nullable=False),
    text_column("identifiers_hash"),
    sa.Column("sealed_key", sa.LargeBinary, nullable=False),
    sa.Column("url", StoredText, nullable=False, index=True),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.UniqueConstraint("operation", "attempt"),
)

# One dated row per newOrder request: what the rate windows of a CA are counted from.
order_requests = sa.Table(
    "order_requests",
    metadata,
    # SQLite numbers rows only in a column of its own INTEGER type.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("order_id", StoredText, sa.ForeignKey("order_intents.id"), nullable=False, index=True),
    text_column("account"),
    text_column("identifiers_hash"),
    sa.Column("sent_at", UTCDateTime, nullable=False),
    sa.Column("kind", StoredText, nullable=False, server_default="new"),  # what it was to the CA: OrderKind
    sa.Index("ix_order_requests_account_sent_at", "account", "sent_at"),
    sa.Index("ix_order_requests_identifiers_hash_sent_at", "identifiers_hash", "sent_at"),
)

# How much of each CA's limits is used up, now; the dated rows above are the history (model/limits.py).
limit_buckets = sa.Table(
    "limit_buckets",
    metadata,
    key_column("directory"),
    key_column("subject"),
    key_column("rule"),
    sa.Column("full_at", UTCDateTime, nullable=False, index=True),
    sa.Column("line_ends_at", UTCDateTime, nullable=False),
)

# One row per name that fails at an account, until it succeeds there.
identifier_failures = sa.Table(
    "identifier_failures",
    metadata,
    key_column("identifier"),
    key_column("directory"),
    key_column("account"),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("rung", sa.Integer, nullable=False),
    sa.Column("first_failed_at", UTCDateTime, nullable=False),
    sa.Column("last_failed_at", UTCDateTime, nullable=False),
    sa.Column("next_at", UTCDateTime, nullable=False),
    sa.Column("sentence", JSONText, nullable=False),  # JSON: a CA may say anything
)

acme_accounts = sa.Table(
    "acme_accounts",
    metadata,
    key_column("directory"),
    key_column("name"),
    sa.Column("sealed_key", sa.LargeBinary, nullable=False),
    text_column("url"),
    sa.Column("contact", JSONText, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
)

http_challenges = sa.Table(
    "http_challenges",
    metadata,
    key_column("token"),
    text_column("key_authorization"),
    sa.Column("expires_at", UTCDateTime, nullable=False, index=True),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    key_column(),
    text_column("name"),
    text_column("prefix"),
    sa.Column("digest", StoredText, nullable=False),
    text_column("role"),
    sa.Column("may_export_keys", sa.Boolean, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("revoked_at", UTCDateTime, nullable=True),
    sa.Column("configurations", JSONText, nullable=False, server_default="[]"),
    sa.Column("allowed_addresses", JSONText, nullable=False, server_default="[]"),
    sa.Column("expires_at", UTCDateTime, nullable=True),
    sa.Column("rotated_at", UTCDateTime, nullable=True),
    text_column("previous_digest", nullable=True),
    sa.Column("previous_ends_at", UTCDateTime, nullable=True),
    sa.Column("last_used_at", UTCDateTime, nullable=True),
    text_column("last_used_from", nullable=True),
    sa.UniqueConstraint("digest"),
    sa.Index("uq_api_keys_previous_digest", "previous_digest", unique=True),
)

# One row: the service as a whole takes writes or doesn't.
read_only_modes = sa.Table(
    "read_only_modes",
    metadata,
    key_column("name"),
    sa.Column("is_on", sa.Boolean, nullable=False),
    sa.Column("since", UTCDateTime, nullable=True),
    text_column("changed_by"),
)

# One row: a deployment has one built-in CA.
authorities = sa.Table(
    "authorities",
    metadata,
    key_column("name"),
    text_column("root_pem"),
    text_column("issuing_pem"),
    sa.Column("sealed_root_key", sa.LargeBinary, nullable=False),
    sa.Column("sealed_issuing_key", sa.LargeBinary, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
)

authority_issued = sa.Table(
    "authority_issued",
    metadata,
    key_column("order_url"),
    text_column("serial"),
    text_column("chain_pem"),
    sa.Column("not_after", UTCDateTime, nullable=False),
    sa.Column("revoked_at", UTCDateTime, nullable=True),
    sa.Column("revocation_reason", sa.Integer, nullable=True),
    sa.UniqueConstraint("serial"),
    sa.Index("ix_authority_issued_revoked_at", "revoked_at"),
)

authority_counters = sa.Table(
    "authority_counters",
    metadata,
    key_column("name"),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# One row: a known value sealed by the key-encryption key in force when the database was new (keys/check.py).
keyring_checks = sa.Table(
    "keyring_checks",
    metadata,
    key_column("name"),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
)

# One row per worker process: who is alive (engine.md, what we add).
worker_heartbeats = sa.Table(
    "worker_heartbeats",
    metadata,
    key_column("executor_id"),
    text_column("host"),
    sa.Column("started_at", UTCDateTime, nullable=False),
    sa.Column("seen_at", UTCDateTime, nullable=False),
)

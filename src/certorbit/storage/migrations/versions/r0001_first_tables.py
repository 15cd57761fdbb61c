"""The first tables: configurations, certificates, operations, the order ledger, accounts, API keys, the built-in CA.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text()
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _make_certificates()
    _make_operations()
    _make_ledger()
    _make_access()
    _make_authority()


def _make_certificates() -> None:
    op.create_table(
        "configurations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("date", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_configurations"),
    )
    op.create_table(
        "entries",
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("config", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("side", TEXT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("le_auto_renew", sa.Boolean, nullable=False),
        sa.Column("le_auto_replace", sa.Boolean, nullable=False),
        sa.Column("identifiers", JSON, nullable=False),
        sa.Column("provider_links", JSON, nullable=False),
        sa.Column("crl", JSON, nullable=False),
        sa.Column("input_digest", TEXT, nullable=False),
        sa.Column("uploaded", INSTANT, nullable=False),
        sa.Column("current_version", TEXT, nullable=True),
        sa.Column("due_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("uid", name="pk_entries"),
        sa.ForeignKeyConstraint(["config"], ["configurations.id"], name="fk_entries_config"),
        sa.UniqueConstraint("config", "id", name="uq_entries_config_id"),
    )
    op.create_index("ix_entries_due_at", "entries", ["due_at"])
    op.create_table(
        "versions",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("entry_uid", TEXT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("source", TEXT, nullable=False),
        sa.Column("chain_pem", TEXT, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=True),
        sa.Column("le_hash", TEXT, nullable=False),
        sa.Column("issuer_name", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("issuer", TEXT, nullable=False),
        sa.Column("san", JSON, nullable=False),
        sa.Column("not_before", INSTANT, nullable=False),
        sa.Column("not_after", INSTANT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("cdp", JSON, nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("public_key_sha256", TEXT, nullable=False),
        sa.Column("key_algorithm", TEXT, nullable=False),
        sa.Column("authority_key_id", TEXT, nullable=False),
        sa.Column("is_ca", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.ForeignKeyConstraint(["entry_uid"], ["entries.uid"], name="fk_versions_entry_uid", ondelete="CASCADE"),
    )
    op.create_index("ix_versions_entry_uid", "versions", ["entry_uid"])


def _make_operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("config", TEXT, nullable=False),
        sa.Column("entry_id", TEXT, nullable=False),
        sa.Column("entry_uid", TEXT, nullable=False),
        sa.Column("identifiers", JSON, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("promised", sa.Boolean, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("next_attempt_at", INSTANT, nullable=True),
        sa.Column("issuer_name", TEXT, nullable=False),
        sa.Column("problem", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_operations"),
    )
    op.create_index("ix_operations_created_at_id", "operations", ["created_at", "id"])
    op.create_index("ix_operations_config_entry_id_created_at", "operations", ["config", "entry_id", "created_at"])
    unfinished = sa.text("state IN ('queued', 'running', 'waiting')")
    op.create_index(
        "uq_operations_unfinished",
        "operations",
        ["entry_uid"],
        unique=True,
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_table(
        "worker_heartbeats",
        sa.Column("executor_id", TEXT, nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name="pk_worker_heartbeats"),
    )


def _make_ledger() -> None:
    op.create_table(
        "order_intents",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("issuer_name", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("identifiers", JSON, nullable=False),
        sa.Column("identifiers_hash", TEXT, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_order_intents"),
        sa.UniqueConstraint("operation", "attempt", name="uq_order_intents_operation_attempt"),
    )
    op.create_index("ix_order_intents_url", "order_intents", ["url"])
    op.create_table(
        "order_requests",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("order_id", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("identifiers_hash", TEXT, nullable=False),
        sa.Column("sent_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_order_requests"),
        sa.ForeignKeyConstraint(["order_id"], ["order_intents.id"], name="fk_order_requests_order_id"),
    )
    op.create_index("ix_order_requests_order_id", "order_requests", ["order_id"])
    op.create_index("ix_order_requests_account_sent_at", "order_requests", ["account", "sent_at"])
    op.create_index("ix_order_requests_identifiers_hash_sent_at", "order_requests", ["identifiers_hash", "sent_at"])
    op.create_table(
        "acme_accounts",
        sa.Column("directory", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("contact", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("directory", "name", name="pk_acme_accounts"),
    )
    op.create_table(
        "http_challenges",
        sa.Column("token", TEXT, nullable=False),
        sa.Column("key_authorization", TEXT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("token", name="pk_http_challenges"),
    )
    op.create_index("ix_http_challenges_expires_at", "http_challenges", ["expires_at"])


def _make_access() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("prefix", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("may_export_keys", sa.Boolean, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_table(
        "keyring_checks",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_keyring_checks"),
    )


def _make_authority() -> None:
    op.create_table(
        "authorities",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("root_pem", TEXT, nullable=False),
        sa.Column("issuing_pem", TEXT, nullable=False),
        sa.Column("sealed_root_key", sa.LargeBinary, nullable=False),
        sa.Column("sealed_issuing_key", sa.LargeBinary, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_authorities"),
    )
    op.create_table(
        "authority_issued",
        sa.Column("order_url", TEXT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("chain_pem", TEXT, nullable=False),
        sa.Column("not_after", INSTANT, nullable=False),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("revocation_reason", sa.Integer, nullable=True),
        sa.PrimaryKeyConstraint("order_url", name="pk_authority_issued"),
        sa.UniqueConstraint("serial", name="uq_authority_issued_serial"),
    )
    op.create_index("ix_authority_issued_revoked_at", "authority_issued", ["revoked_at"])
    op.create_table(
        "authority_counters",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_authority_counters"),
    )

"""Deployment: listeners and what they are to serve, copies, roll-outs, sites, configuration versions, shelves.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text()
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LISTENER_KEY = ["target", "region", "load_balancer", "listener", "port"]


def upgrade() -> None:
    _give_operations_lanes()
    _make_configuration_versions()
    _make_listeners()
    _make_attachments()
    _make_copies()
    _make_rollouts()
    _make_sites()
    _make_regions_and_quotas()
    _make_shelves()
    op.create_table(
        "named_turns",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("ends_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_named_turns"),
    )
    op.execute("INSERT INTO sweeps (name, next_at) VALUES ('deployment', '2000-01-01T00:00:00.000000+00:00')")


def _give_operations_lanes() -> None:
    # Operations of earlier versions were all issuances.
    op.add_column("operations", sa.Column("lane", TEXT, nullable=False, server_default="issuance"))
    op.drop_index("uq_operations_unfinished", "operations")
    unfinished = sa.text("state IN ('queued', 'running', 'waiting')")
    op.create_index(
        "uq_operations_unfinished",
        "operations",
        ["entry_uid", "lane"],
        unique=True,
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )


def _make_configuration_versions() -> None:
    op.create_table(
        "configuration_versions",
        sa.Column("config", TEXT, nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("changed_at", INSTANT, nullable=False),
        sa.Column("changed_by", TEXT, nullable=False),
        sa.Column("changes", JSON, nullable=False),
        sa.PrimaryKeyConstraint("config", "number", name="pk_configuration_versions"),
    )


def _listener_key() -> list[sa.Column[object]]:
    texts: list[sa.Column[object]] = [sa.Column(name, TEXT, nullable=False) for name in LISTENER_KEY[:4]]
    return [*texts, sa.Column("port", sa.Integer, nullable=False)]


def _make_listeners() -> None:
    op.create_table(
        "listeners",
        *_listener_key(),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("dns_name", TEXT, nullable=False),
        sa.Column("max_certificates", sa.Integer, nullable=False),
        sa.Column("default_handle", TEXT, nullable=False),
        sa.Column("certificates", JSON, nullable=False),
        sa.Column("endpoints", JSON, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint(*LISTENER_KEY, name="pk_listeners"),
    )


def _make_attachments() -> None:
    op.create_table(
        "attachments",
        sa.Column("id", TEXT, nullable=False),
        *_listener_key(),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("config", TEXT, nullable=False),
        sa.Column("entry_id", TEXT, nullable=False),
        sa.Column("entry_uid", TEXT, nullable=False),
        sa.Column("needed_entry", TEXT, nullable=True),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("wanted", TEXT, nullable=False),
        sa.Column("promised", sa.Boolean, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("stage", TEXT, nullable=False),
        sa.Column("replaces", TEXT, nullable=True),
        sa.Column("version", TEXT, nullable=True),
        sa.Column("handle", TEXT, nullable=False),
        sa.Column("proof", JSON, nullable=True),
        sa.Column("problem", JSON, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_attachments"),
        sa.ForeignKeyConstraint(["needed_entry"], ["entries.uid"], name="fk_attachments_needed_entry"),
        sa.UniqueConstraint(*LISTENER_KEY, "entry_uid", name="uq_attachments_listener_entry_uid"),
    )
    op.create_index("ix_attachments_config", "attachments", ["config"])
    op.create_index("ix_attachments_entry_uid", "attachments", ["entry_uid"])
    op.create_index("ix_attachments_needed_entry", "attachments", ["needed_entry"])
    op.create_index(
        "uq_attachments_default",
        "attachments",
        LISTENER_KEY,
        unique=True,
        sqlite_where=sa.text("is_default = 1 AND wanted = 'attached'"),
        postgresql_where=sa.text("is_default AND wanted = 'attached'"),
    )


def _make_copies() -> None:
    op.create_table(
        "copies",
        sa.Column("target", TEXT, nullable=False),
        sa.Column("handle", TEXT, nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("link", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("region", TEXT, nullable=False),
        sa.Column("config", TEXT, nullable=False),
        sa.Column("entry_id", TEXT, nullable=False),
        sa.Column("entry_uid", TEXT, nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("is_doomed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("target", "handle", "scope", name="pk_copies"),
    )
    op.create_index("ix_copies_config", "copies", ["config"])
    op.create_index("ix_copies_entry_uid_target_scope", "copies", ["entry_uid", "target", "scope"])
    op.create_index(
        "ix_copies_doomed",
        "copies",
        ["updated_at"],
        sqlite_where=sa.text("is_doomed = 1"),
        postgresql_where=sa.text("is_doomed"),
    )


def _make_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("attachment", TEXT, nullable=False),
        *_listener_key(),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("from_version", TEXT, nullable=True),
        sa.Column("to_version", TEXT, nullable=True),
        sa.Column("stage", TEXT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("snapshot", JSON, nullable=True),
        sa.Column("proof", JSON, nullable=True),
        sa.Column("problem", JSON, nullable=True),
        sa.PrimaryKeyConstraint("operation", "attachment", name="pk_rollouts"),
    )
    op.create_index("ix_rollouts_updated_at", "rollouts", ["updated_at"])


def _make_sites() -> None:
    op.create_table(
        "sites",
        sa.Column("config", TEXT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("server_names", JSON, nullable=False),
        sa.Column("ssl_certificate", TEXT, nullable=False),
        sa.Column("client_certificate", TEXT, nullable=False),
        sa.Column("client_certificate_mode", TEXT, nullable=False),
        sa.Column("security_policy", TEXT, nullable=False),
        sa.Column("routing_profile", TEXT, nullable=False),
        sa.Column("proxy_template", TEXT, nullable=False),
        sa.Column("challenge_cookie_domain", TEXT, nullable=False),
        sa.Column("mobile_application_group", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("config", "id", name="pk_sites"),
        sa.ForeignKeyConstraint(["config"], ["configurations.id"], name="fk_sites_config"),
    )


def _make_regions_and_quotas() -> None:
    op.create_table(
        "regions",
        sa.Column("load_balancer", TEXT, nullable=False),
        sa.Column("datacenters", JSON, nullable=False),
        sa.PrimaryKeyConstraint("load_balancer", name="pk_regions"),
    )
    op.create_table(
        "quota_uses",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("used_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quota_uses"),
    )
    op.create_index("ix_quota_uses_used_at", "quota_uses", ["used_at"])
    op.create_index("ix_quota_uses_account_kind_used_at", "quota_uses", ["account", "kind", "used_at"])


def _make_shelves() -> None:
    op.create_table(
        "shelf_revisions",
        sa.Column("target", TEXT, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("target", name="pk_shelf_revisions"),
    )
    op.create_table(
        "shelf_items",
        sa.Column("target", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("bundle", TEXT, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("target", "name", name="pk_shelf_items"),
    )
    op.create_table(
        "shelf_slots",
        sa.Column("target", TEXT, nullable=False),
        sa.Column("slot", TEXT, nullable=False),
        sa.Column("item", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("target", "slot", name="pk_shelf_slots"),
    )

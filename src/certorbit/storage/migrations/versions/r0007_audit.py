"""The audit trail: its records and the ends of their chain.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
JSON = sa.Text()


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "audit_records",
        sa.Column("id", SERIAL, autoincrement=True, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=True),
        _text("previous_hash", nullable=True),
        _text("hash", nullable=True),
        sa.Column("at", INSTANT, nullable=False),
        _text("actor_kind"),
        _text("actor_name"),
        _text("key_id"),
        _text("role"),
        _text("address"),
        _text("method"),
        _text("route"),
        _text("request_id"),
        _text("action"),
        _text("config"),
        sa.Column("objects", JSON, nullable=False),
        _text("operation"),
        sa.Column("changes", JSON, nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_records"),
    )
    op.create_index("ix_audit_records_at", "audit_records", ["at"])
    op.create_index("ix_audit_records_number", "audit_records", ["number"], unique=True)
    op.create_index("ix_audit_records_config", "audit_records", ["config", "id"])
    chains = op.create_table(
        "audit_chains",
        _text("name"),
        sa.Column("number", sa.BigInteger, nullable=False),
        _text("hash"),
        sa.Column("anchor_number", sa.BigInteger, nullable=False),
        _text("anchor_hash"),
        sa.PrimaryKeyConstraint("name", name="pk_audit_chains"),
    )
    none = "0" * 64
    op.bulk_insert(chains, [{"name": "audit", "number": 0, "hash": none, "anchor_number": 0, "anchor_hash": none}])


def downgrade() -> None:
    op.drop_table("audit_chains")
    op.drop_table("audit_records")

"""Limits of CAs: token buckets, names that fail, and what each counted request was to the CA.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text()


def upgrade() -> None:
    op.create_table(
        "limit_buckets",
        sa.Column("directory", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("rule", TEXT, nullable=False),
        sa.Column("full_at", INSTANT, nullable=False),
        sa.Column("line_ends_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("directory", "subject", "rule", name="pk_limit_buckets"),
    )
    op.create_index("ix_limit_buckets_full_at", "limit_buckets", ["full_at"])
    op.create_table(
        "identifier_failures",
        sa.Column("identifier", TEXT, nullable=False),
        sa.Column("directory", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("rung", sa.Integer, nullable=False),
        sa.Column("first_failed_at", INSTANT, nullable=False),
        sa.Column("last_failed_at", INSTANT, nullable=False),
        sa.Column("next_at", INSTANT, nullable=False),
        sa.Column("sentence", JSON, nullable=False),
        sa.PrimaryKeyConstraint("identifier", "directory", "account", name="pk_identifier_failures"),
    )
    # Requests of version 0.1.0 were all for new certificates: it had no renewal.
    op.add_column("order_requests", sa.Column("kind", TEXT, nullable=False, server_default="new"))

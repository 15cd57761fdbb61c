"""Schedules: what was decided about each entry's renewal, and whose turn the sweep is.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text()


def upgrade() -> None:
    op.create_table(
        "renewals",
        sa.Column("entry_uid", TEXT, nullable=False),
        sa.Column("renew_at", INSTANT, nullable=True),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("info", JSON, nullable=True),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("issuer", TEXT, nullable=False),
        sa.Column("predecessor_not_before", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("entry_uid", name="pk_renewals"),
        sa.ForeignKeyConstraint(["entry_uid"], ["entries.uid"], name="fk_renewals_entry_uid", ondelete="CASCADE"),
    )
    op.create_index("ix_renewals_renew_at", "renewals", ["renew_at"])
    op.create_table(
        "sweeps",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("next_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_sweeps"),
    )
    op.execute("INSERT INTO sweeps (name, next_at) VALUES ('renewal', '2000-01-01T00:00:00.000000+00:00')")
    # Certificates from before this version: the first sweep looks at each of them and decides.
    op.execute(
        "UPDATE entries SET due_at = '2000-01-01T00:00:00.000000+00:00'"
        " WHERE current_version IS NOT NULL AND source <> 'built-in'"
    )


def downgrade() -> None:
    op.drop_table("sweeps")
    op.drop_table("renewals")

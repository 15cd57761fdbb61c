"""Whether targets answered when they were asked last.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text()


def upgrade() -> None:
    op.create_table(
        "target_looks",
        sa.Column("target", TEXT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=True),
        sa.Column("unseen_since", INSTANT, nullable=True),
        sa.Column("problem", JSON, nullable=True),
        sa.PrimaryKeyConstraint("target", name="pk_target_looks"),
    )


def downgrade() -> None:
    op.drop_table("target_looks")

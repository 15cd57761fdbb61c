"""What targets that serve certificates themselves let their listeners check clients by.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "shelf_policies",
        *(sa.Column(name, TEXT, nullable=False) for name in ("target", "scope", "mode", "bundle", "ca_pem", "crl_pem")),
        sa.PrimaryKeyConstraint("target", "scope", name="pk_shelf_policies"),
    )


def downgrade() -> None:
    op.drop_table("shelf_policies")

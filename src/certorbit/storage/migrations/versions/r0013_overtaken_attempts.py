"""Which attempts of an operation were overtaken before they began: people don't count those.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operations", sa.Column("overtaken", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("operations", "overtaken")

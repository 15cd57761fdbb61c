"""What listeners check the clients of a certificate by; the turn of the look at the lists of CA bundles.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JSON = sa.Text()


def upgrade() -> None:
    op.add_column("attachments", sa.Column("client_policy", JSON, nullable=True))
    op.execute("INSERT INTO sweeps (name, next_at) VALUES ('bundle-lists', '2000-01-01T00:00:00.000000+00:00')")


def downgrade() -> None:
    op.execute("DELETE FROM sweeps WHERE name = 'bundle-lists'")
    op.drop_column("attachments", "client_policy")

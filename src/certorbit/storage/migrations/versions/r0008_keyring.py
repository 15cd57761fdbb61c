"""The wrapping of data keys: a table of key-encryption keys, and whose turn it is to look after it.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "key_encryption_keys",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("wrapping_key", TEXT, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("retired_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_key_encryption_keys"),
    )
    for name in ("keyring", "keyring_check"):
        op.execute(f"INSERT INTO sweeps (name, next_at) VALUES ('{name}', '2000-01-01T00:00:00.000000+00:00')")  # noqa: S608 - our own words


def downgrade() -> None:
    op.execute("DELETE FROM sweeps WHERE name IN ('keyring', 'keyring_check')")
    op.drop_table("key_encryption_keys")

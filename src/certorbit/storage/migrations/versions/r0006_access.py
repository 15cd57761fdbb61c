"""Who may do what: limits, rotation and last use of API keys; the read-only mode of the whole service.

Keys of the role `read-only` keep it: it reads as `viewer`, and processes of the version before know nothing else.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text()
NEW_COLUMNS = (
    "configurations",
    "allowed_addresses",
    "expires_at",
    "rotated_at",
    "previous_digest",
    "previous_ends_at",
    "last_used_at",
    "last_used_from",
)


def upgrade() -> None:
    # Server defaults: processes of the version before go on to add keys without these columns.
    for column in (
        sa.Column("configurations", JSON, nullable=False, server_default="[]"),
        sa.Column("allowed_addresses", JSON, nullable=False, server_default="[]"),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("rotated_at", INSTANT, nullable=True),
        sa.Column("previous_digest", TEXT, nullable=True),
        sa.Column("previous_ends_at", INSTANT, nullable=True),
        sa.Column("last_used_at", INSTANT, nullable=True),
        sa.Column("last_used_from", TEXT, nullable=True),
    ):
        op.add_column("api_keys", column)
    op.create_index("uq_api_keys_previous_digest", "api_keys", ["previous_digest"], unique=True)
    op.create_table(
        "read_only_modes",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("is_on", sa.Boolean, nullable=False),
        sa.Column("since", INSTANT, nullable=True),
        sa.Column("changed_by", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_read_only_modes"),
    )


def downgrade() -> None:
    op.drop_table("read_only_modes")
    op.drop_index("uq_api_keys_previous_digest", "api_keys")
    for name in NEW_COLUMNS:
        op.drop_column("api_keys", name)

"""Sessions of people who signed in.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def upgrade() -> None:
    op.create_table(
        "sessions",
        _text("digest"),
        _text("id"),
        _text("state_digest"),
        _text("rules_digest"),
        _text("subject"),
        _text("name"),
        _text("email"),
        _text("role"),
        sa.Column("may_export_keys", sa.Boolean, nullable=False),
        sa.Column("configurations", JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("last_seen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_sessions"),
        sa.UniqueConstraint("state_digest", name="uq_sessions_state_digest"),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])


def downgrade() -> None:
    op.drop_table("sessions")

"""CRLs and what they say of certificates.

Frozen: it makes what it made on the day of its release, whatever `storage.tables` says later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.Text()


def upgrade() -> None:
    op.create_table(
        "crls",
        sa.Column("url", TEXT, nullable=False),
        sa.Column("issuer_id", TEXT, nullable=False),
        sa.Column("etag", TEXT, nullable=False),
        sa.Column("last_modified", TEXT, nullable=False),
        sa.Column("number", TEXT, nullable=True),
        sa.Column("this_update", INSTANT, nullable=True),
        sa.Column("next_update", INSTANT, nullable=True),
        sa.Column("fetched_at", INSTANT, nullable=True),
        sa.Column("next_fetch_at", INSTANT, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("problem", TEXT, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("url", "issuer_id", name="pk_crls"),
    )
    op.create_index("ix_crls_next_fetch_at", "crls", ["next_fetch_at"])
    op.create_table(
        "verdicts",
        sa.Column("version_id", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("checked_at", INSTANT, nullable=True),
        sa.Column("valid_until", INSTANT, nullable=True),
        sa.Column("sources", JSON, nullable=False),
        sa.Column("problems", JSON, nullable=False),
        sa.Column("look_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("version_id", name="pk_verdicts"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_verdicts_version_id", ondelete="CASCADE"),
    )
    is_revoked = sa.text("state = 'revoked'")
    op.create_index(
        "ix_verdicts_revoked", "verdicts", ["version_id"], sqlite_where=is_revoked, postgresql_where=is_revoked
    )
    op.create_index("ix_verdicts_look_at", "verdicts", ["look_at"])
    # Certificates from before this version: the first look comes to each of them.
    op.execute(
        "INSERT INTO verdicts (version_id, state, reason, sources, problems, look_at)"
        " SELECT versions.id, 'unknown', '', '[]', '[]', '2000-01-01T00:00:00.000000+00:00'"
        " FROM versions JOIN entries ON entries.uid = versions.entry_uid"
        " WHERE entries.side NOT IN ('clientCA', 'backendCA') AND versions.source <> 'built-in'"
    )
    op.execute("INSERT INTO sweeps (name, next_at) VALUES ('revocation', '2000-01-01T00:00:00.000000+00:00')")


def downgrade() -> None:
    op.execute("DELETE FROM sweeps WHERE name = 'revocation'")
    op.drop_table("verdicts")
    op.drop_table("crls")

"""The tables of deployment, in the metadata of `tables.py`: listeners and what they are to serve, sites, shelves.

Copies, roll-outs and a detachment under way hold plain ids, not foreign keys: they outlive their entry.
"""

import sqlalchemy as sa

from certorbit.storage.tables import key_column, metadata, text_column
from certorbit.storage.types import JSONText, StoredText, UTCDateTime

# A listener's key: these columns in every table that names one (storage/listener_keys.py).
LISTENER_KEY = ("target", "region", "load_balancer", "listener", "port")


def _listener_key() -> tuple[sa.Column[str], sa.Column[str], sa.Column[str], sa.Column[str], sa.Column[int]]:
    texts = LISTENER_KEY[:4]
    target, region, load_balancer, listener = (text_column(name) for name in texts)
    return target, region, load_balancer, listener, sa.Column(LISTENER_KEY[4], sa.Integer, nullable=False)


listeners = sa.Table(
    "listeners",
    metadata,
    *_listener_key(),
    text_column("provider"),
    text_column("kind"),
    text_column("dns_name"),
    sa.Column("max_certificates", sa.Integer, nullable=False),
    text_column("default_handle"),
    sa.Column("certificates", JSONText, nullable=False),
    sa.Column("endpoints", JSONText, nullable=False),
    sa.Column("seen_at", UTCDateTime, nullable=False),
    sa.PrimaryKeyConstraint(*LISTENER_KEY),
)

# How the last look at each target went.
target_looks = sa.Table(
    "target_looks",
    metadata,
    key_column("target"),
    sa.Column("seen_at", UTCDateTime, nullable=True),
    sa.Column("unseen_since", UTCDateTime, nullable=True),
    sa.Column("problem", JSONText, nullable=True),
)

attachments = sa.Table(
    "attachments",
    metadata,
    key_column(),
    *_listener_key(),
    text_column("provider"),
    text_column("kind"),
    text_column("config"),
    text_column("entry_id"),
    sa.Column("entry_uid", StoredText, nullable=False, index=True),
    # The entry's uid while the attachment is wanted: an entry can't be deleted then, nor can a deleted one be attached.
    sa.Column("needed_entry", StoredText, sa.ForeignKey("entries.uid"), nullable=True, index=True),
    sa.Column("is_default", sa.Boolean, nullable=False),
    text_column("wanted"),
    sa.Column("promised", sa.Boolean, nullable=False),
    sa.Column("created_at", UTCDateTime, nullable=False),
    sa.Column("updated_at", UTCDateTime, nullable=False),
    text_column("stage"),
    text_column("replaces", nullable=True),
    text_column("version", nullable=True),
    text_column("handle"),
    sa.Column("proof", JSONText, nullable=True),
    sa.Column("problem", JSONText, nullable=True),
    sa.Column("client_policy", JSONText, nullable=True),
    # Begins with the target: serves what is asked by target, too.
    sa.UniqueConstraint(*LISTENER_KEY, "entry_uid", name="uq_attachments_listener_entry_uid"),
    sa.Index("ix_attachments_config", "config"),
)
# ports/balancer_store.py: at most one default per listener among the wanted ones.
_IS_WANTED_DEFAULT = sa.and_(attachments.c.is_default, attachments.c.wanted == "attached")
sa.Index(
    "uq_attachments_default",
    *(attachments.c[name] for name in LISTENER_KEY),
    unique=True,
    sqlite_where=_IS_WANTED_DEFAULT,
    postgresql_where=_IS_WANTED_DEFAULT,
)

copies = sa.Table(
    "copies",
    metadata,
    key_column("target"),
    key_column("handle"),
    key_column("scope"),
    text_column("link"),
    text_column("provider"),
    text_column("region"),
    sa.Column("config", StoredText, nullable=False, index=True),
    text_column("entry_id"),
    text_column("entry_uid"),
    text_column("version"),
    sa.Column("updated_at", UTCDateTime, nullable=False),
    sa.Column("is_doomed", sa.Boolean, nullable=False),
    sa.Index("ix_copies_entry_uid_target_scope", "entry_uid", "target", "scope"),
)
# The doomed ones are few and looked for often.
sa.Index(
    "ix_copies_doomed",
    copies.c.updated_at,
    sqlite_where=copies.c.is_doomed,
    postgresql_where=copies.c.is_doomed,
)

rollouts = sa.Table(
    "rollouts",
    metadata,
    key_column("operation"),
    key_column("attachment"),
    *_listener_key(),
    sa.Column("is_default", sa.Boolean, nullable=False),
    text_column("from_version", nullable=True),
    text_column("to_version", nullable=True),
    text_column("stage"),
    sa.Column("updated_at", UTCDateTime, nullable=False, index=True),
    sa.Column("snapshot", JSONText, nullable=True),
    sa.Column("proof", JSONText, nullable=True),
    sa.Column("problem", JSONText, nullable=True),
)

sites = sa.Table(
    "sites",
    metadata,
    sa.Column("config", StoredText, sa.ForeignKey("configurations.id"), primary_key=True),
    key_column(),
    text_column("name"),
    text_column("description"),
    sa.Column("server_names", JSONText, nullable=False),
    text_column("ssl_certificate"),
    text_column("client_certificate"),
    text_column("client_certificate_mode"),
    text_column("security_policy"),
    text_column("routing_profile"),
    text_column("proxy_template"),
    text_column("challenge_cookie_domain"),
    text_column("mobile_application_group"),
)

regions = sa.Table(
    "regions",
    metadata,
    key_column("load_balancer"),
    sa.Column("datacenters", JSONText, nullable=False),  # by city code
)

quota_uses = sa.Table(
    "quota_uses",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    text_column("account"),
    text_column("kind"),
    sa.Column("used_at", UTCDateTime, nullable=False, index=True),
    sa.Index("ix_quota_uses_account_kind_used_at", "account", "kind", "used_at"),
)

# Raised before every change of the target's shelf: writers of one shelf meet at its row.
shelf_revisions = sa.Table(
    "shelf_revisions",
    metadata,
    key_column("target"),
    sa.Column("revision", sa.BigInteger, nullable=False),
)

shelf_items = sa.Table(
    "shelf_items",
    metadata,
    key_column("target"),
    key_column("name"),
    text_column("bundle"),
    sa.Column("sealed_key", sa.LargeBinary, nullable=False),
)

shelf_slots = sa.Table(
    "shelf_slots",
    metadata,
    key_column("target"),
    key_column("slot"),
    text_column("item"),
)

# What a target's listeners check clients by; a scope is a listener for targets that have this.
shelf_policies = sa.Table(
    "shelf_policies",
    metadata,
    key_column("target"),
    key_column("scope"),
    text_column("mode"),
    text_column("bundle"),
    text_column("ca_pem"),
    text_column("crl_pem"),
)

named_turns = sa.Table(
    "named_turns",
    metadata,
    key_column("name"),
    text_column("holder"),
    sa.Column("ends_at", UTCDateTime, nullable=False),
)

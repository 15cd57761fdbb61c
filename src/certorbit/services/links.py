"""Who uses a certificate, what becomes of them when it goes or another takes its place; and where its copies are."""

from collections.abc import Sequence
from dataclasses import replace

from certorbit.deploying.client_policies import find_disagreeing, find_sites, list_checked_by
from certorbit.errors import BadInput, InUse
from certorbit.model.balancer import HeldCopy, shown_link
from certorbit.model.change import Change
from certorbit.model.change_states import change_of_site
from certorbit.model.deployment import Attachment, Stage, Wanted
from certorbit.model.entry import PLACEHOLDER, ConfigID, Entry, EntryID, EntryUID, ProviderLink
from certorbit.model.own_tls import checks_clients, is_served
from certorbit.model.site import DEFAULT_SITE, ClientCertificateMode, Site, default_site
from certorbit.ports.store import UnitOfWork
from certorbit.tls_settings import TLSSettings

_MOST_NAMED = 5  # in one message


def list_users(tx: UnitOfWork, config: ConfigID, entry_id: EntryID) -> Sequence[Site]:
    """Return the server groups that name the certificate, `__default__` first, then by id."""
    found = list(tx.sites.list_using(config, entry_id))
    if entry_id == PLACEHOLDER and tx.sites.find(config, DEFAULT_SITE) is None:
        found.append(default_site(config))  # in use, though nobody has written it yet
    return sorted(found, key=lambda site: (site.id != DEFAULT_SITE, site.id))


def list_links(tx: UnitOfWork, config: ConfigID) -> dict[EntryUID, list[ProviderLink]]:
    """Return the places of our copies by entry: one query for all of a configuration."""
    links: dict[EntryUID, list[ProviderLink]] = {}
    for copy in tx.copies.list(config):
        links.setdefault(copy.entry_uid, []).append(_link_of(copy))
    return links


def list_links_of(tx: UnitOfWork, entry: Entry) -> list[ProviderLink]:
    """Return the places of our copies of one entry."""
    return [_link_of(copy) for copy in tx.copies.list_of_entry(entry.uid) if not copy.is_doomed]


def all_links(entry: Entry, copies: Sequence[ProviderLink]) -> list[ProviderLink]:
    """Return the places that the client told of and those of our copies, each once."""
    return list(dict.fromkeys([*entry.provider_links, *copies]))


def check_not_own(entry: Entry, settings: TLSSettings) -> None:
    """Return unless the service itself uses the entry for its HTTPS: then no request takes it away.

    Every process of a deployment has the same settings (docs/operations.md), so each refuses for all.

    Raises:
        InUse: it serves with the entry, or checks its clients by it.
    """
    if is_served(entry, settings):
        use, setting = "serves its own HTTPS with", "certificate"
    elif checks_clients(entry, settings):
        use, setting = "checks the certificates of its own clients by", "client_ca"
    else:
        return
    raise InUse(
        f"The certificate {entry.id!r} is in use by Certorbit itself, which {use} it. That is a setting, so"
        f" replace_cert_id doesn't move it: name another one as {setting} of [tls] in the settings and restart every"
        " process of the service (docs/tls.md), then delete this one.",
        subject="entry_id",
    )


def let_go(tx: UnitOfWork, entry: Entry) -> list[Change]:
    """Make nothing use the entry any more, because it goes (contract.md: clients delete the old one first).

    Server groups that serve it fall back to `placeholder`. One that demands client certificates by it is never
    opened by that: it is refused. The caller has locked the configuration.

    Returns: what changed.

    Raises:
        InUse: load balancers hold it, or server groups check client certificates by it. Nothing was changed then.
    """
    held = [attachment for attachment in tx.attachments.list_of_entry(entry.uid) if _is_held(attachment)]
    if held:
        raise InUse(
            f"The certificate {entry.id!r} is in use by {_name([_show(attachment) for attachment in held])}. Detach it"
            " there first (DELETE …/load-balancers/{name}/certificates), or put another one in its place"
            " (PUT …/certificates/{id}?replace_cert_id=…).",
            subject="entry_id",
        )
    users = list_users(tx, entry.config, entry.id)
    checking = [site for site in users if site.client_certificate == entry.id and _checks_clients(site)]
    if checking:
        raise InUse(
            f"The server groups {_name([repr(site.id) for site in checking])} check client certificates by"
            f" {entry.id!r}; without it they would let everybody in, or nobody. Give them another client_certificate,"
            " or set their client_certificate_mode to off, first.",
            subject="entry_id",
        )
    if still := list_checked_by(tx, entry):
        raise InUse(
            f"{_name([_show(attachment) for attachment in still])} still check clients by {entry.id!r}. Let a server"
            f" group that serves {still[0].entry_id!r} set client_certificate_mode to off, or detach that certificate,"
            " first.",
            subject="entry_id",
        )
    return [_put(tx, site, site.without(entry.id)) for site in users]


def hand_over(tx: UnitOfWork, *, old: Entry, new: Entry) -> list[Change]:
    """Make server groups that use `old` use `new`. The caller has locked the configuration.

    Returns: what changed.

    Raises:
        BadInput: `new` has no certificate yet, or is for another side; or server groups that check clients by
            different bundles would come to share it.
    """
    if new.current is None:
        raise BadInput(
            f"The certificate {new.id!r} is still being issued, so it can't take the place of {old.id!r} yet; try again"
            " when it is there.",
            subject="replace_cert_id",
        )
    if new.side is not old.side:
        raise BadInput(
            f"replace_cert_id: {old.id!r} is for side {old.side}, {new.id!r} for side {new.side}; one can't take the"
            " other's place.",
            subject="replace_cert_id",
        )
    changes = [_put(tx, site, _renamed(site, old.id, new.id)) for site in list_users(tx, old.config, old.id)]
    if two := find_disagreeing(find_sites(tx, new.config, new.id)):
        raise BadInput(
            f"replace_cert_id: the server groups {two[0].id!r} and {two[1].id!r} would share {new.id!r} and check"
            " clients by different bundles (client_certificate). Make them agree first.",
            subject="replace_cert_id",
        )
    return changes


def _put(tx: UnitOfWork, before: Site, after: Site) -> Change:
    tx.sites.put(after)
    return change_of_site(before, after)


def _renamed(site: Site, old: EntryID, new: EntryID) -> Site:
    return replace(
        site,
        ssl_certificate=new if site.ssl_certificate == old else site.ssl_certificate,
        client_certificate=new if site.client_certificate == old else site.client_certificate,
    )


def _is_held(attachment: Attachment) -> bool:
    """Return whether the listener has the entry, is to have it, or has not yet let go of it."""
    return attachment.wanted is Wanted.ATTACHED or attachment.stage is not Stage.DETACHED


def _checks_clients(site: Site) -> bool:
    return site.client_certificate_mode is not ClientCertificateMode.OFF


def _link_of(copy: HeldCopy) -> ProviderLink:
    return ProviderLink(link=shown_link(copy.link, copy.entry_id), provider=copy.provider, region=copy.region)


def _show(attachment: Attachment) -> str:
    key = attachment.listener
    place = f"the load balancer {key.load_balancer!r} (listener {key.listener!r}, port {key.port}"
    rest = ", being detached)" if attachment.wanted is Wanted.DETACHED else ")"
    return place + rest


def _name(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return ", ".join(texts[:_MOST_NAMED]) + more

"""Server groups of a configuration: each function is one transaction's work (contract.md, Around the certificates)."""

from collections.abc import Callable, Sequence
from datetime import datetime

from certorbit.deploying.client_policies import find_disagreeing, find_sites, redeploy_changed
from certorbit.errors import BadInput, BuiltIn, EntryExists, NotFound
from certorbit.model.change_states import change_of_site
from certorbit.model.entry import PLACEHOLDER, ConfigID, EntryID, Side, is_entry_id
from certorbit.model.site import DEFAULT_SITE, ClientCertificateMode, Site, SiteID, default_site
from certorbit.ports.store import UnitOfWork
from certorbit.services.configurations import get_configuration, lock_configuration


def list_sites(tx: UnitOfWork, config: ConfigID) -> Sequence[Site]:
    """Return all server groups, the built-in `__default__` first, then by id. Raises NotFound."""
    get_configuration(tx, config)
    stored = tx.sites.list(config)
    first = next((site for site in stored if site.id == DEFAULT_SITE), default_site(config))
    return [first, *(site for site in stored if site.id != DEFAULT_SITE)]


def get_site(tx: UnitOfWork, config: ConfigID, site_id: SiteID) -> Site:
    """Return one server group.

    Raises:
        NotFound: no such configuration, or no such server group in it.
    """
    get_configuration(tx, config)
    found = find_site(tx, config, site_id)
    if found is None:
        raise NotFound(f"There is no server group {site_id!r} in configuration {config!r}.", subject="site_id")
    return found


def find_site(tx: UnitOfWork, config: ConfigID, site_id: SiteID) -> Site | None:
    """Return the server group as it stands, `__default__` also if nobody has changed it yet."""
    return tx.sites.find(config, site_id) or (default_site(config) if site_id == DEFAULT_SITE else None)


def create(tx: UnitOfWork, site: Site, *, by: str, now: datetime, new_id: Callable[[], str]) -> None:
    """Store a new server group, and start what it makes of its certificate's listeners. A repeat changes nothing.

    by: name of the caller's key.

    Raises:
        NotFound: no such configuration. EntryExists: the id is taken by another one.
        BadInput: it names a certificate that doesn't exist or is for another side; or its client certificates can't
            be checked as it says.
    """
    lock_configuration(tx, site.config)
    existing = find_site(tx, site.config, site.id)
    if existing == site:
        return
    if existing is not None:
        raise EntryExists(
            f"There is a server group {site.id!r} in configuration {site.config!r} already, with other content. Change"
            " it (PUT), use another id, or delete it first.",
            subject="site_id",
        )
    _check_certificates(tx, site)
    tx.sites.put(site)
    tx.configurations.record(site.config, [change_of_site(None, site)], by=by, now=now)
    redeploy_changed(tx, site.config, [site.ssl_certificate], now=now, new_id=new_id)


def change(
    tx: UnitOfWork,
    config: ConfigID,
    site_id: SiteID,
    rewrite: Callable[[Site], Site],
    *,
    by: str,
    now: datetime,
    new_id: Callable[[], str],
) -> None:
    """Write a server group anew. If nothing differs, nothing is counted as a change.

    Listeners whose clients are to be checked in another way then are changed by a deployment.

    rewrite: returns the server group as it is to be, from what it is; may run more than once.

    Raises:
        NotFound: no such configuration or server group. BadInput: as for `create`.
    """
    lock_configuration(tx, config)
    before = get_site(tx, config, site_id)
    after = rewrite(before)
    if after == before:
        return
    _check_certificates(tx, after)
    tx.sites.put(after)
    tx.configurations.record(config, [change_of_site(before, after)], by=by, now=now)
    redeploy_changed(tx, config, [before.ssl_certificate, after.ssl_certificate], now=now, new_id=new_id)


def delete(
    tx: UnitOfWork, config: ConfigID, site_id: SiteID, *, by: str, now: datetime, new_id: Callable[[], str]
) -> None:
    """Delete a server group. What listeners check the clients of its certificate by stays, until another says off.

    Raises:
        NotFound: no such configuration or server group. BuiltIn: `__default__`.
    """
    lock_configuration(tx, config)
    site = get_site(tx, config, site_id)
    if site_id == DEFAULT_SITE:
        raise BuiltIn(
            f"The server group {DEFAULT_SITE!r} is built in; it can be changed, but not deleted.", subject="site_id"
        )
    tx.sites.delete(config, site_id)
    tx.configurations.record(config, [change_of_site(site, None)], by=by, now=now)
    redeploy_changed(tx, config, [site.ssl_certificate], now=now, new_id=new_id)


def find_unusable(tx: UnitOfWork, site: Site) -> tuple[str, str, Side | None] | None:
    """Return the first field that names a certificate which can't stand there; None if all can.

    Returns: the field, the certificate's id, and its side if it exists.
    """
    for field, named, side in (
        ("ssl_certificate", site.ssl_certificate, Side.SERVER),
        ("client_certificate", site.client_certificate, Side.CLIENT_CA),
    ):
        entry = tx.entries.find(site.config, EntryID(named)) if is_entry_id(named) else None
        if named and (entry is None or entry.side is not side):
            return field, named, entry.side if entry else None
    return None


def check_clients(tx: UnitOfWork, site: Site) -> None:
    """Raise BadInput if the server group's client certificates can't be checked as it says (docs/mutual-tls.md)."""
    if site.client_certificate_mode is ClientCertificateMode.OFF:
        return
    if not site.client_certificate:
        raise BadInput(
            f"client_certificate_mode: {site.client_certificate_mode} needs a client_certificate: the CAs that clients"
            " must come from. Name a certificate of side clientCA, or set the mode to off.",
            subject="client_certificate_mode",
        )
    if site.ssl_certificate in {"", PLACEHOLDER}:
        return  # served by no listener of ours
    others = [other for other in find_sites(tx, site.config, site.ssl_certificate) if other.id != site.id]
    if two := find_disagreeing([site, *others]):
        other = next(one for one in two if one.id != site.id)
        raise BadInput(
            f"client_certificate: the server group {other.id!r} serves the certificate {site.ssl_certificate!r} too,"
            f" and checks clients by {other.client_certificate!r}. One certificate can't have two bundles: use the same"
            " one, or another ssl_certificate.",
            subject="client_certificate",
        )


def _check_certificates(tx: UnitOfWork, site: Site) -> None:
    unusable = find_unusable(tx, site)
    if unusable is None:
        check_clients(tx, site)
        return
    field, named, side = unusable
    shown = repr(named if len(named) <= 80 else named[:77] + "...")
    if side is None:
        raise BadInput(
            f"{field}: there is no certificate {shown} in configuration {site.config!r}; create it first, or leave the"
            " field empty.",
            subject=field,
        )
    wanted = Side.SERVER if field == "ssl_certificate" else Side.CLIENT_CA
    raise BadInput(
        f"{field}: the certificate {shown} is for side {side}; a certificate of side {wanted} can stand here.",
        subject=field,
    )

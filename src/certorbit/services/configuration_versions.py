"""A configuration's versions: what clients changed, when, who; and the way back (docs/configurations.md)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from certorbit.deploying.client_policies import redeploy_changed
from certorbit.errors import BadInput, NotFound
from certorbit.model.change import Change, ChangeKind, ConfigurationVersion, undo
from certorbit.model.change_states import change_of_entry, change_of_site, site_from_state
from certorbit.model.entry import ConfigID, Entry, EntryID, Version
from certorbit.model.site import Site, SiteID
from certorbit.ports.store import UnitOfWork
from certorbit.services.configurations import get_configuration, lock_configuration
from certorbit.services.reattaching import Bounds, reattach
from certorbit.services.sites import check_clients, find_site, find_unusable
from certorbit.services.versions import check_not_under_way, is_revoked, make_current

MOST_PER_PAGE = 500
State = Mapping[str, Any]


def list_versions(
    tx: UnitOfWork, config: ConfigID, *, before: int | None, limit: int
) -> tuple[Sequence[ConfigurationVersion], int]:
    """Return versions, the newest first, and how many are recorded in all.

    before: only those with a lower number, for the next page.

    Raises:
        NotFound: no such configuration.
    """
    get_configuration(tx, config)
    return tx.configurations.list_versions(config, before=before, limit=limit), tx.configurations.count_versions(config)


def get_version(tx: UnitOfWork, config: ConfigID, number: int) -> ConfigurationVersion:
    """Return one version with its changes. Raises NotFound."""
    get_configuration(tx, config)
    found = tx.configurations.find_version(config, number)
    if found is None:
        raise NotFound(f"No change is recorded as version {number} of configuration {config!r}.", subject="number")
    return found


def revert(
    tx: UnitOfWork,
    config: ConfigID,
    number: int,
    *,
    bounds: Bounds,
    now: datetime,
    new_id: Callable[[], str],
) -> None:
    """Make the configuration as it was after one of its versions, as one new version. A repeat changes nothing.

    Server groups become exactly what they were. Certificates keep their material: their flags go back, and a version
    that a client made current since is left again, unless the certificate was renewed after that: a renewal is never
    undone. Certificates made since stay; one that was deleted since can't come back.

    Raises:
        NotFound: no such configuration, or it never had this version; or a listener is gone, or closed to it.
        InUse: a certificate is being issued whose current version would change; or another configuration's default
            certificate would be displaced that the caller may not touch.
        BadInput: a server group would name a certificate that is gone; or changes since then are not recorded.
    """
    configuration = lock_configuration(tx, config)
    later = tx.configurations.list_versions_after(config, number)
    if not 1 <= number <= configuration.version:
        raise NotFound(
            f"There is no version {number} of configuration {config!r}; the current one is {configuration.version}.",
            subject="number",
        )
    if len(later) != configuration.version - number:
        raise BadInput(
            f"Not everything that changed since version {number} of configuration {config!r} is recorded; the service"
            " began to record changes later. Choose a newer version.",
            subject="number",
        )
    wanted = undo(later)
    states = {kind: {id_: state for (of, id_), state in wanted.items() if of is kind} for kind in ChangeKind}
    changes = _revert_entries(tx, config, states[ChangeKind.CERTIFICATE], later=later, now=now, new_id=new_id)
    changes += _revert_sites(tx, config, states[ChangeKind.SERVER_GROUP], number=number)
    changes += reattach(tx, config, states[ChangeKind.ATTACHMENT], bounds=bounds, now=now, new_id=new_id)
    redeploy_changed(tx, config, _served_by(changes), now=now, new_id=new_id)
    if changes:
        tx.configurations.record(config, changes, by=bounds.by, now=now)


def _revert_sites(tx: UnitOfWork, config: ConfigID, states: Mapping[str, State | None], *, number: int) -> list[Change]:
    changes = []
    for site_id, state in sorted(states.items()):
        before = find_site(tx, config, SiteID(site_id))
        after = None if state is None else site_from_state(config, site_id, state)
        if before == after:
            continue
        if after is None:
            tx.sites.delete(config, SiteID(site_id))
        else:
            _check_certificates(tx, after, number=number)
            tx.sites.put(after)
        changes.append(change_of_site(before, after))
    for site_id, state in sorted(states.items()):
        if state is not None:  # only now: one by one they may not go together
            check_clients(tx, site_from_state(config, site_id, state))
    return changes


def _served_by(changes: Sequence[Change]) -> set[str]:
    """Return the ids of the certificates that the changed server groups serve, or served before."""
    sites = [change for change in changes if change.kind is ChangeKind.SERVER_GROUP]
    return {str(state["ssl_certificate"]) for site in sites for state in (site.before, site.after) if state}


def _check_certificates(tx: UnitOfWork, site: Site, *, number: int) -> None:
    unusable = find_unusable(tx, site)
    if unusable is not None:
        field, named, side = unusable
        what = "is gone" if side is None else f"is another one now, for side {side}"
        raise BadInput(
            f"Version {number} can't come back: its server group {site.id!r} has the {field} {named!r}, and that"
            f" certificate {what}. Create it again, or change the server groups one by one.",
            subject=field,
        )


def _revert_entries(
    tx: UnitOfWork,
    config: ConfigID,
    states: Mapping[str, State | None],
    *,
    later: Sequence[ConfigurationVersion],
    now: datetime,
    new_id: Callable[[], str],
) -> list[Change]:
    changes = []
    for entry_id, state in sorted(states.items()):
        history = _changes_of(entry_id, later)
        entry = tx.entries.find(config, EntryID(entry_id))
        if entry is None or state is None or any(change.before is None for change in history):
            continue  # made since (also under an id that was free again), or deleted since
        after = _with_flags(tx, entry, state, now=now)
        version = _find_left_version(tx, after, history, now=now)
        if version is not None:
            check_not_under_way(tx, entry)
            is_newest = tx.entries.list_versions(entry.uid)[0].id == version.id
            make_current(tx, entry, version, is_paused=not is_newest, now=now, new_id=new_id)
            after = replace(after, current=version)
        if after != entry:
            changes.append(change_of_entry(entry, after))
    return changes


def _with_flags(tx: UnitOfWork, entry: Entry, state: State, *, now: datetime) -> Entry:
    renew, replaced = bool(state["le_auto_renew"]), bool(state["le_auto_replace"])
    if (renew, replaced) != (entry.le_auto_renew, entry.le_auto_replace):
        tx.entries.update_flags(entry.uid, le_auto_renew=renew, le_auto_replace=replaced)
        tx.schedules.look_at(entry.uid, now)
    return replace(entry, le_auto_renew=renew, le_auto_replace=replaced)


def _changes_of(entry_id: str, later: Sequence[ConfigurationVersion]) -> list[Change]:
    """Return the certificate's changes, the oldest first."""
    return [
        change
        for version in sorted(later, key=lambda version: version.number)
        for change in version.changes
        if (change.kind, change.id) == (ChangeKind.CERTIFICATE, entry_id)
    ]


def _find_left_version(tx: UnitOfWork, entry: Entry, history: Sequence[Change], *, now: datetime) -> Version | None:
    """Return the version that clients left for the one that is current now.

    None if they left none, if a renewal came after that, or if it is gone or expired.
    """
    moves = [
        (change.before["version"], change.after["version"])
        for change in history
        if change.before is not None
        and change.after is not None
        and change.before["version"] != change.after["version"]
    ]
    if not moves or entry.current is None or entry.current.id != moves[-1][1] or moves[0][0] == entry.current.id:
        return None
    versions = tx.entries.list_versions(entry.uid)
    found = next((version for version in versions if version.id == moves[0][0]), None)
    is_good = found is not None and found.facts.not_after > now and not is_revoked(tx, found, now=now)
    return found if is_good else None

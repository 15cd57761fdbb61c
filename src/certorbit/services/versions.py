"""An entry's versions: listed, compared, rolled back to."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from certorbit.deploying.client_policies import redeploy_bundle
from certorbit.deploying.starting import PRIORITY_INTERACTIVE, ensure_deployment
from certorbit.errors import BadInput, InUse, NotFound
from certorbit.model.change_states import change_of_entry
from certorbit.model.entry import ConfigID, Entry, EntryID, Version, VersionID
from certorbit.model.version_difference import VersionDifference, compare_versions
from certorbit.ports.store import UnitOfWork
from certorbit.services.certificates import check_not_built_in, get_entry
from certorbit.services.configurations import lock_configuration
from certorbit.services.renewals import find_schedule, record_schedule


def list_versions(tx: UnitOfWork, config: ConfigID, entry_id: EntryID) -> tuple[Entry, Sequence[Version]]:
    """Return the entry and all of its versions, the newest first. Raises NotFound."""
    entry = get_entry(tx, config, entry_id)
    return entry, tx.entries.list_versions(entry.uid)


def get_versions(
    tx: UnitOfWork, config: ConfigID, entry_id: EntryID, *wanted: VersionID
) -> tuple[Entry, tuple[Version, ...]]:
    """Return the entry and the versions that are asked for, in that order. Raises NotFound."""
    entry, versions = list_versions(tx, config, entry_id)
    by_id = {version.id: version for version in versions}
    for version_id in wanted:
        if version_id not in by_id:
            raise NotFound(f"The certificate {entry_id!r} has no version {version_id[:80]!r}.", subject="version_id")
    return entry, tuple(by_id[version_id] for version_id in wanted)


def compare(
    tx: UnitOfWork, config: ConfigID, entry_id: EntryID, *, before: VersionID, after: VersionID
) -> VersionDifference:
    """Return what differs between two versions of an entry. Raises NotFound."""
    _, (old, new) = get_versions(tx, config, entry_id, before, after)
    return compare_versions(old, new)


def list_revoked(tx: UnitOfWork, versions: Sequence[Version], *, now: datetime) -> frozenset[VersionID]:
    """Return those of the versions that are known to be revoked."""
    return frozenset(version.id for version in versions if is_revoked(tx, version, now=now))


def is_revoked(tx: UnitOfWork, version: Version, *, now: datetime) -> bool:
    """Return whether the version is known to be revoked."""
    verdict = tx.revocations.find_verdict(version.id)
    return verdict is not None and verdict.at(now).is_revoked


def roll_back(  # noqa: PLR0913 - a command of its own, each part by name
    tx: UnitOfWork,
    config: ConfigID,
    entry_id: EntryID,
    version_id: VersionID,
    *,
    force: bool = False,
    by: str,
    now: datetime,
    new_id: Callable[[], str],
) -> Version:
    """Make an older version the current one again; the newer ones stay. Repeating it is harmless.

    The automatic renewal is paused from then on: the sweep would renew the older version the minute after. Resuming
    is the operator's word.

    Args:
        force: also if the version is known to be revoked. by: name of the caller's key, for the change history.

    Raises:
        NotFound: no such entry or version. BuiltIn: the placeholder.
        InUse: an issuance is under way; its result would follow at once.
        BadInput: the version is expired, or revoked and it is not forced.
    """
    entry, (version,) = get_versions(tx, config, entry_id, version_id)
    check_not_built_in(entry.id)
    if version.facts.not_after <= now:
        raise BadInput(
            f"The version ended on {version.facts.not_after:%Y-%m-%d}; it can't be served any more.",
            subject="version_id",
        )
    if not force and is_revoked(tx, version, now=now):
        raise BadInput(
            "The version is revoked: clients that check revocation refuse it. Renew the certificate instead; if it is"
            " to be served all the same, say so (force).",
            subject="version_id",
        )
    check_not_under_way(tx, entry)
    lock_configuration(tx, config)
    schedule = find_schedule(tx, entry.uid)
    make_current(tx, entry, version, is_paused=True, now=now, new_id=new_id)
    if version == entry.current:
        record_schedule(tx, entry, schedule, replace(schedule, paused=True), now=now)
    else:
        tx.configurations.record(config, [change_of_entry(entry, replace(entry, current=version))], by=by, now=now)
    return version


def check_not_under_way(tx: UnitOfWork, entry: Entry) -> None:
    """Raise InUse if the entry is being issued: what comes of it would take any version's place."""
    unfinished = tx.operations.lock_unfinished(entry.uid)
    if unfinished is not None:
        raise InUse(
            f"An issuance is under way for {entry.id!r} and would take the version's place; wait for its end, or cancel"
            f" it (operation {unfinished.id}).",
            subject="entry_id",
        )


def make_current(
    tx: UnitOfWork, entry: Entry, version: Version, *, is_paused: bool, now: datetime, new_id: Callable[[], str]
) -> None:
    """Make one of its versions the entry's current one, start its deployment, and have its renewal decided anew.

    is_paused: pause the automatic renewal; False leaves it as it is.
    """
    tx.entries.set_current(entry.uid, version.id)
    current = replace(entry, current=version)
    ensure_deployment(tx, current, priority=PRIORITY_INTERACTIVE, now=now, new_id=new_id)
    redeploy_bundle(tx, current, now=now, new_id=new_id)
    schedule = find_schedule(tx, entry.uid)
    tx.schedules.put(
        replace(
            schedule,
            look_at=now,
            renew_at=None,
            reason="",
            info=None,
            predecessor_not_before=None,
            paused=is_paused or schedule.paused,
        )
    )

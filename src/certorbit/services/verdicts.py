"""What is known of the revocation of certificates, for those who ask. Each function runs inside `Store.read`."""

from dataclasses import dataclass
from datetime import datetime

from certorbit.model.crl import NOT_LOOKED, Verdict, VerdictState
from certorbit.model.entry import ConfigID, Entry, EntryID, Version, VersionID
from certorbit.ports.store import UnitOfWork
from certorbit.services.versions import get_versions, list_versions

_NEVER_REVOKED = Verdict(
    state=VerdictState.UNKNOWN, problems=("Certificates of this kind are not looked at: nobody publishes of them.",)
)


@dataclass(frozen=True, slots=True)
class VersionVerdict:
    """What is known of a version now; None: the entry is not issued yet."""

    version: Version | None
    verdict: Verdict


def get_verdict(
    tx: UnitOfWork, config: ConfigID, entry_id: EntryID, version_id: VersionID | None, *, now: datetime
) -> VersionVerdict:
    """Return what is known of a version's revocation; version_id: None for the current one.

    Raises:
        NotFound: no such entry or version.
    """
    version: Version | None
    if version_id is None:
        entry, _ = list_versions(tx, config, entry_id)
        version = entry.current
    else:
        _, (version,) = get_versions(tx, config, entry_id, version_id)
    if version is None:
        return VersionVerdict(None, NOT_LOOKED)
    verdict = tx.revocations.find_verdict(version.id)
    if verdict is None:
        return VersionVerdict(version, _NEVER_REVOKED)
    return VersionVerdict(version, NOT_LOOKED if verdict.checked_at is None else verdict.at(now))


def is_revoked(tx: UnitOfWork, entry: Entry, *, now: datetime) -> bool:
    """Return whether the entry's current certificate is known to be revoked."""
    verdict = tx.revocations.find_verdict(entry.current.id) if entry.current is not None else None
    return verdict is not None and verdict.at(now).is_revoked

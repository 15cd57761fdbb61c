"""The store: every fact of ours, in transactions.

A transaction is a plain function of a `UnitOfWork`; the store runs it to its end and commits, or rolls everything
back when it raises. The function may run more than once (the store repeats it when it lost a race), so it has no
effect but through the unit of work. It does no network call and takes milliseconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

from certorbit.model.access import APIKey, APIKeyID, KeyUse
from certorbit.model.audit import Actor
from certorbit.model.change import Change, ConfigurationVersion
from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, EntryUID, Version, VersionID
from certorbit.model.operation import Lane, Operation, OperationID, OperationState
from certorbit.model.order import Account, Challenge
from certorbit.model.read_only import ReadOnlyMode
from certorbit.model.schedule import Maker, Schedule
from certorbit.ports.audit import AuditTrail
from certorbit.ports.authority_store import Authorities
from certorbit.ports.balancer_store import (
    Attachments,
    Copies,
    Listeners,
    NamedTurns,
    Quotas,
    Regions,
    Rollouts,
    Shelves,
    Sites,
)
from certorbit.ports.crl_store import Revocations
from certorbit.ports.keyring_store import KeyEncryptionKeys, SealedSecrets
from certorbit.ports.ledger import IdentifierFailures, LimitBuckets, OrderLedger
from certorbit.ports.session_store import Sessions
from certorbit.ports.upkeep_store import UpkeepCounts

T = TypeVar("T")


class JobKind(StrEnum):
    """Which workflow: the name is stored with every run and never renamed while rows of it may live."""

    ISSUE = "issue"
    DEPLOY = "deploy"


@dataclass(frozen=True, slots=True)
class Job:
    """A workflow to be run: `workflow_id` is unique for ever; enqueuing it again is harmless.

    delay_seconds: not before this long from now.
    """

    workflow_id: str
    operation: OperationID
    attempt: int
    priority: int
    delay_seconds: float = 0.0
    kind: JobKind = JobKind.ISSUE


def job_of(operation: Operation, *, priority: int, not_before_seconds: float = 0.0) -> Job:
    """Return the job that runs the operation's present attempt."""
    return Job(
        workflow_id=operation.workflow_id,
        operation=operation.id,
        attempt=operation.attempt,
        priority=priority,
        delay_seconds=max(0.0, not_before_seconds),
        kind=JobKind.DEPLOY if operation.kind.lane is Lane.DEPLOYMENT else JobKind.ISSUE,
    )


class Configurations(Protocol):
    def list(self) -> Sequence[Configuration]: ...
    def find(self, config: ConfigID) -> Configuration | None: ...
    def lock(self, config: ConfigID) -> Configuration | None:
        """Return the configuration and hold its row until the transaction ends (PostgreSQL: FOR NO KEY UPDATE).

        Changes of one configuration that read before they write come one after the other.
        """

    def add(self, configuration: Configuration) -> None: ...
    def record(
        self, config: ConfigID, changes: Sequence[Change], *, by: str, now: datetime, operation: str = ""
    ) -> int:
        """Count one change (version + 1, date = now), keep what changed, and return the new version.

        Writes its record of the audit trail, too. changes: one or more. operation: that the change began; "": none.
        """

    def list_versions(
        self, config: ConfigID, *, before: int | None = None, limit: int = 100
    ) -> Sequence[ConfigurationVersion]:
        """Return versions, the newest first. before: only those with a lower number."""

    def list_versions_after(self, config: ConfigID, number: int) -> Sequence[ConfigurationVersion]:
        """Return all versions with a higher number, the newest first."""

    def count_versions(self, config: ConfigID) -> int: ...
    def find_version(self, config: ConfigID, number: int) -> ConfigurationVersion | None: ...


class Entries(Protocol):
    """Entries with their current version. One query each, never one per entry."""

    def list(self, config: ConfigID) -> Sequence[Entry]:
        """Return all entries, `placeholder` first, then by id."""

    def find(self, config: ConfigID, entry: EntryID) -> Entry | None: ...
    def get_by_uid(self, uid: EntryUID) -> Entry | None: ...
    def add(self, entry: Entry) -> None:
        """Insert the entry (and its current version, if it has one).

        Raises:
            LostRace: (config, id) was inserted meanwhile; the store repeats the transaction, which then finds it.
        """

    def update_flags(self, uid: EntryUID, *, le_auto_renew: bool, le_auto_replace: bool) -> None: ...
    def list_bundles(self) -> Sequence[Entry]:
        """Return the CA bundles of all configurations, by uid."""

    def set_crl(self, uid: EntryUID, crl: Sequence[str]) -> None:
        """Write a bundle's revocation lists (PEM). Raises LostRace if the entry was deleted meanwhile."""

    def add_version(self, version: Version) -> None:
        """Insert the version and make it the entry's current one. The older versions stay."""

    def list_versions(self, uid: EntryUID) -> Sequence[Version]:
        """Return all versions of the entry, the newest first."""

    def set_current(self, uid: EntryUID, version: VersionID) -> None:
        """Make one of its versions the entry's current one. Raises LostRace if the entry is gone meanwhile."""

    def delete(self, uid: EntryUID) -> None:
        """Delete the entry with all of its versions."""


class Operations(Protocol):
    def add(self, operation: Operation) -> None: ...
    def find(self, operation: OperationID) -> Operation | None: ...
    def lock(self, operation: OperationID) -> Operation | None:
        """Return the operation and hold its row until the transaction ends (PostgreSQL: FOR UPDATE).

        Whoever is about to change a state reads it this way: of two that decide at once, the second sees the first.
        """

    def lock_unfinished(self, entry: EntryUID, lane: Lane = Lane.ISSUANCE) -> Operation | None:
        """Return the entry's operation that is not in a final state (there is at most one per lane), locked."""

    def update(self, operation: Operation) -> None:
        """Write every field that can change (state, attempt, promised, times, issuer_name, problem)."""

    def list_states(self, operations: Sequence[OperationID]) -> dict[OperationID, OperationState]:
        """Return the states of those that exist: one query for all that wait."""

    def list(
        self,
        *,
        config: ConfigID | frozenset[ConfigID] | None = None,
        entry: EntryID | None = None,
        state: OperationState | None = None,
        lane: Lane | None = None,
        before: tuple[datetime, OperationID] | None = None,
        limit: int = 100,
    ) -> Sequence[Operation]:
        """Return operations, newest first (created_at, id falling).

        config: of this one, or of any of these; None: of all. before: the last of the page before.
        """

    def count(
        self,
        *,
        config: ConfigID | frozenset[ConfigID] | None = None,
        entry: EntryID | None = None,
        state: OperationState | None = None,
        lane: Lane | None = None,
    ) -> int: ...
    def count_states(self, *, lane: Lane, since: datetime) -> Mapping[OperationState, int]:
        """Return how many of the lane that were begun since then stand how. By an index: its cost is theirs."""


class Schedules(Protocol):
    """Every entry's own timer (docs/renewal.md), and whose turn the sweep is."""

    def find(self, entry: EntryUID) -> Schedule | None:
        """Return the entry's schedule, a blank one if nothing was decided yet; None if there is no such entry."""

    def put(self, schedule: Schedule) -> None:
        """Write the whole schedule. Harmless if the entry is gone meanwhile."""

    def look_at(self, entry: EntryUID, instant: datetime | None) -> None:
        """Let the sweep look at the entry then; None: not any more. The rest of its schedule stays."""

    def list_due(self, *, now: datetime, limit: int) -> Sequence[tuple[Entry, Schedule]]:
        """Return entries whose `look_at` has come, the longest due first. By an index: its cost is that of the page."""

    def list_planned(self, *, until: datetime, limit: int) -> Sequence[tuple[Entry, Schedule]]:
        """Return entries with a `renew_at` up to then, the earliest first."""

    def list_unplanned(self, *, limit: int) -> Sequence[tuple[Entry, Schedule]]:
        """Return entries that have a certificate and are looked at, but have no `renew_at`; what ends first, first."""

    def wake_idle(self, *, now: datetime) -> int:
        """Let the sweep look at all entries without a `renew_at` now, but for those that it never looks at.

        Returns how many.
        """

    def count_makers(self) -> Sequence[Maker]:
        """Return how many generated certificates that renew (`le_auto_renew`) were made by whom: one query."""

    def claim_sweep(self, name: str, *, now: datetime, every: timedelta) -> bool:
        """Return True to one caller in the whole cluster per period.

        The next one is then never further away than the caller's own period, whatever another caller's was.
        """


class Accounts(Protocol):
    def find(self, directory: str, name: str) -> Account | None: ...
    def add(self, account: Account) -> None:
        """Insert the account. Raises LostRace if it is there already."""

    def set_url(self, directory: str, name: str, *, url: str) -> None: ...


class Challenges(Protocol):
    def put_all(self, challenges: Sequence[Challenge]) -> None:
        """Insert or overwrite."""

    def find(self, token: str) -> Challenge | None: ...
    def delete_all(self, tokens: Sequence[str]) -> None: ...
    def delete_expired(self, *, now: datetime) -> int: ...


class APIKeys(Protocol):
    def add(self, key: APIKey) -> None: ...
    def find_by_digest(self, digest: str) -> APIKey | None:
        """Return the key whose secret, or whose secret before the last rotation, has this digest."""

    def find(self, key: APIKeyID) -> APIKey | None: ...
    def list(self) -> Sequence[APIKey]: ...
    def lock(self) -> None:
        """Let changes of keys that look at other keys come one after another, until the transaction ends."""

    def update(self, key: APIKey) -> None:
        """Write the key's terms and secrets; not its revocation, not its uses."""

    def note_uses(self, uses: Sequence[KeyUse]) -> None:
        """Write last uses. One that is older than what is known changes nothing, nor does one of an unknown key."""

    def revoke(self, key: APIKeyID, *, now: datetime) -> None: ...
    def count(self) -> int: ...


class ReadOnlyModes(Protocol):
    """Whether the service as a whole takes writes: one row for all nodes."""

    def find(self) -> ReadOnlyMode:
        """Return the mode; off if nobody ever switched it."""

    def put(self, mode: ReadOnlyMode) -> None: ...


class KeyringChecks(Protocol):
    """A known value, sealed when the database was new: opening it shows that a keyring is this database's."""

    def find(self) -> bytes | None: ...
    def add(self, envelope: bytes) -> None:
        """Insert it. Raises LostRace if another process did so meanwhile."""


class UnitOfWork(Protocol):
    """One transaction's view of the store."""

    def acting(self, actor: Actor) -> "UnitOfWork":
        """Return the same transaction as the actor's doing; `Store.write` begins with the caller's (ports/audit.py)."""
        ...

    @property
    def audit(self) -> AuditTrail: ...
    @property
    def configurations(self) -> Configurations: ...
    @property
    def entries(self) -> Entries: ...
    @property
    def operations(self) -> Operations: ...
    @property
    def orders(self) -> OrderLedger: ...
    @property
    def schedules(self) -> Schedules: ...
    @property
    def limits(self) -> LimitBuckets: ...
    @property
    def failures(self) -> IdentifierFailures: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def challenges(self) -> Challenges: ...
    @property
    def api_keys(self) -> APIKeys: ...
    @property
    def read_only_modes(self) -> ReadOnlyModes: ...
    @property
    def authorities(self) -> Authorities: ...
    @property
    def keyring_checks(self) -> KeyringChecks: ...
    @property
    def key_encryption_keys(self) -> KeyEncryptionKeys: ...
    @property
    def sealed_secrets(self) -> SealedSecrets: ...
    @property
    def listeners(self) -> Listeners: ...
    @property
    def attachments(self) -> Attachments: ...
    @property
    def copies(self) -> Copies: ...
    @property
    def revocations(self) -> Revocations: ...
    @property
    def rollouts(self) -> Rollouts: ...
    @property
    def sites(self) -> Sites: ...
    @property
    def regions(self) -> Regions: ...
    @property
    def quotas(self) -> Quotas: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def shelves(self) -> Shelves: ...
    @property
    def named_turns(self) -> NamedTurns: ...
    @property
    def upkeep(self) -> UpkeepCounts: ...
    def enqueue(self, job: Job) -> None:
        """Enqueue the job in this very transaction: no entry without its workflow, no workflow without its entry."""


class Store(Protocol):
    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run a function that only reads; it sees one consistent snapshot. It must not write."""
        ...

    async def write(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run the function in one transaction; when this returns, its effects survive kill -9.

        Lost races (LostRace, 'database is locked', serialisation failures) are repeated a bounded number of
        times with jitter.

        Raises:
            Unreachable: the database did not answer (phase "database"), or the disk is full.
        """
        ...

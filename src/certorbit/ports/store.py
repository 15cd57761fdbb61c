"""The store: every fact of ours, in transactions.

A transaction is a plain function of a `UnitOfWork`; the store runs it to its end and commits, or rolls everything
back when it raises. The function may run more than once (the store repeats it when it lost a race), so it has no
effect but through the unit of work. It does no network call and takes milliseconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from certorbit.model.access import APIKey, APIKeyID
from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, EntryUID, Version
from certorbit.model.operation import Operation, OperationID, OperationState
from certorbit.model.order import Account, Challenge, OrderID, OrderIntent

T = TypeVar("T")


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


class Configurations(Protocol):
    def list(self) -> Sequence[Configuration]: ...
    def find(self, config: ConfigID) -> Configuration | None: ...
    def add(self, configuration: Configuration) -> None: ...
    def touch(self, config: ConfigID, *, now: datetime) -> None:
        """Count one change by a client: version + 1, date = now."""


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
    def add_version(self, version: Version) -> None:
        """Insert the version and make it the entry's current one. The older versions stay."""

    def delete(self, uid: EntryUID) -> None:
        """Delete the entry with all of its versions."""


class Operations(Protocol):
    def add(self, operation: Operation) -> None: ...
    def find(self, operation: OperationID) -> Operation | None: ...
    def lock(self, operation: OperationID) -> Operation | None:
        """Return the operation and hold its row until the transaction ends (PostgreSQL: FOR UPDATE).

        Whoever is about to change a state reads it this way: of two that decide at once, the second sees the first.
        """

    def lock_unfinished(self, entry: EntryUID) -> Operation | None:
        """Return the entry's operation that is not in a final state (there is at most one), locked."""

    def update(self, operation: Operation) -> None:
        """Write every field that can change (state, attempt, promised, times, issuer_name, problem)."""

    def list_states(self, operations: Sequence[OperationID]) -> dict[OperationID, OperationState]:
        """Return the states of those that exist: one query for all that wait."""

    def list(
        self,
        *,
        config: ConfigID | None = None,
        entry: EntryID | None = None,
        state: OperationState | None = None,
        before: tuple[datetime, OperationID] | None = None,
        limit: int = 100,
    ) -> Sequence[Operation]:
        """Return operations, newest first (created_at, id falling); `before`: the last of the page before."""

    def count(
        self,
        *,
        config: ConfigID | None = None,
        entry: EntryID | None = None,
        state: OperationState | None = None,
    ) -> int: ...


class OrderLedger(Protocol):
    """What was asked of CAs. Rows are never deleted before the longest rate window is over."""

    def find(self, operation: OperationID, attempt: int) -> OrderIntent | None: ...
    def add(self, intent: OrderIntent) -> None: ...
    def count_request(self, order: OrderID, *, now: datetime) -> None:
        """Write down that newOrder is about to be sent once more: `requests` + 1 and a dated row."""

    def set_url(self, order: OrderID, url: str) -> str:
        """Store the order's URL unless it has one, and return the one that it has now.

        The first one stays: an execution that was taken over while it waited for the CA (a machine that slept) must
        not put another order under the one that goes on.
        """

    def carry_over(self, order: OrderID, *, attempt: int) -> None:
        """Make it the order of a later attempt of its operation: the CA still has it."""

    def drop_key(self, order: OrderID) -> None:
        """Forget the sealed key (it becomes b""): the version holds it now, or the order is of no more use."""

    def total_requests(self) -> int:
        """Return the number of all newOrder requests ever counted."""

    def known_urls(self, urls: Sequence[str]) -> set[str]:
        """Return those of the given order URLs that some intent already holds."""


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
    def find_by_digest(self, digest: str) -> APIKey | None: ...
    def find(self, key: APIKeyID) -> APIKey | None: ...
    def list(self) -> Sequence[APIKey]: ...
    def revoke(self, key: APIKeyID, *, now: datetime) -> None: ...
    def count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Authority:
    """The built-in CA: both certificates as PEM, both keys sealed (contexts `authority:root` and `…:issuing`)."""

    root_pem: str
    issuing_pem: str
    sealed_root_key: bytes
    sealed_issuing_key: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RevokedSerial:
    """A certificate of the built-in CA that is revoked. serial: lower-case hex; reason: RFC 5280 CRLReason number."""

    serial: str
    revoked_at: datetime
    reason: int


class Authorities(Protocol):
    """The one built-in CA of a deployment and what it issued."""

    def find(self) -> Authority | None: ...
    def add(self, authority: Authority) -> None:
        """Insert it. Raises LostRace if another process made it meanwhile."""

    def find_issued(self, order_url: str) -> str | None:
        """Return the chain (PEM) issued for this order, so that a repeated finalisation gives the same one."""

    def add_issued(self, order_url: str, *, serial: str, chain_pem: str, not_after: datetime) -> None:
        """Record it. Raises LostRace if the order or the serial has one already."""

    def revoke(self, serial: str, *, now: datetime, reason: int) -> None: ...
    def list_revoked(self) -> Sequence[RevokedSerial]: ...
    def next_crl_number(self) -> int:
        """Return a number greater than every one returned before (RFC 5280 §5.2.3)."""


class KeyringChecks(Protocol):
    """A known value, sealed when the database was new: opening it shows that a keyring is this database's."""

    def find(self) -> bytes | None: ...
    def add(self, envelope: bytes) -> None:
        """Insert it. Raises LostRace if another process did so meanwhile."""


class UnitOfWork(Protocol):
    """One transaction's view of the store."""

    @property
    def configurations(self) -> Configurations: ...
    @property
    def entries(self) -> Entries: ...
    @property
    def operations(self) -> Operations: ...
    @property
    def orders(self) -> OrderLedger: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def challenges(self) -> Challenges: ...
    @property
    def api_keys(self) -> APIKeys: ...
    @property
    def authorities(self) -> Authorities: ...
    @property
    def keyring_checks(self) -> KeyringChecks: ...
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

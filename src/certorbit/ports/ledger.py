"""The ledger of what CAs were asked, the buckets of their limits, the memory of names that fail: parts of the store."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from certorbit.model.ca_limits import AccountKey, OrderKind
from certorbit.model.identifier_failure import IdentifierFailure
from certorbit.model.limits import Bucket, RuleName
from certorbit.model.operation import OperationID
from certorbit.model.order import OrderID, OrderIntent


class OrderLedger(Protocol):
    """What was asked of CAs. Rows are never deleted before the longest rate window is over."""

    def find(self, operation: OperationID, attempt: int) -> OrderIntent | None: ...
    def add(self, intent: OrderIntent) -> None: ...
    def count_request(self, order: OrderID, *, now: datetime, kind: OrderKind = OrderKind.NEW) -> None:
        """Write down that newOrder is about to be sent once more: `requests` + 1 and a dated row.

        kind: what the request is to the CA; says which limits the row counts against.
        """

    def recount(self, order: OrderID, kind: OrderKind) -> None:
        """Say anew what the order's last request was to the CA, now that more is known."""

    def last_request(self, order: OrderID) -> tuple[OrderKind, datetime] | None:
        """Return what the order's last request was to the CA, and when it was sent; None: there is none."""

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


class LimitBuckets(Protocol):
    """The buckets of the CAs' limits. A bucket without a row is full.

    Whoever is about to change buckets locks them first and then adds those that had no row and updates the others,
    all in one transaction: of two that want the last token, the second sees what the first did.
    """

    def find(self, directory: str, subjects: Sequence[str]) -> Sequence[Bucket]:
        """Return the rows of these subjects, of every rule: one query, one indexed look-up per subject."""

    def lock(self, directory: str, subjects: Sequence[str]) -> Sequence[Bucket]:
        """Return the same and hold the rows until the transaction ends (PostgreSQL: FOR UPDATE, in sorted order)."""

    def add(self, directory: str, buckets: Sequence[Bucket]) -> None:
        """Insert rows. Raises LostRace if one was inserted meanwhile; the repeated transaction then finds it."""

    def update(self, directory: str, buckets: Sequence[Bucket]) -> None:
        """Write rows that this transaction has locked."""

    def drop(self, directory: str, rule: RuleName, subjects: Sequence[str]) -> None:
        """Make the buckets full again."""

    def delete_full(self, *, now: datetime) -> int:
        """Delete the rows of buckets that are full and have no line. Returns how many. By an index."""


class IdentifierFailures(Protocol):
    """The names that fail, one row per name and account until it succeeds. Written as `LimitBuckets` is."""

    def find(self, account: AccountKey, identifiers: Sequence[str]) -> Sequence[IdentifierFailure]:
        """Return those of the names that fail at the account, by name: one query by the key."""

    def lock(self, account: AccountKey, identifiers: Sequence[str]) -> Sequence[IdentifierFailure]:
        """Return the same and hold the rows until the transaction ends."""

    def list(self, *, after: tuple[str, AccountKey] | None = None, limit: int = 100) -> Sequence[IdentifierFailure]:
        """Return all failing names, by name, directory and account. after: the last of the page before."""

    def add(self, failures: Sequence[IdentifierFailure]) -> None:
        """Insert rows. Raises LostRace if one was inserted meanwhile; the repeated transaction then finds it."""

    def update(self, failures: Sequence[IdentifierFailure]) -> None:
        """Write rows that this transaction has locked."""

    def delete(self, account: AccountKey, identifiers: Sequence[str]) -> None:
        """Forget the names at this account: they succeeded."""

    def forget(self, identifiers: Sequence[str]) -> None:
        """Forget the names at all accounts: an operator changed something, they may be tried at once."""

    def delete_stale(self, *, before: datetime) -> int:
        """Delete names whose next try was due before then and that nobody tried: no certificate has them any more."""

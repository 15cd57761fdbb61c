"""Operations: looked at, started, cancelled."""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from certorbit.errors import BadInput, NotFound
from certorbit.model.entry import ConfigID, Entry, EntryID
from certorbit.model.operation import Lane, Operation, OperationID, OperationKind, OperationState, new_operation
from certorbit.ports.store import UnitOfWork, job_of

MOST_PER_PAGE = 500


def list_operations(
    tx: UnitOfWork,
    *,
    config: ConfigID | frozenset[ConfigID] | None,
    entry: EntryID | None,
    state: OperationState | None,
    cursor: str | None,
    limit: int,
    lane: Lane | None = None,
) -> tuple[Sequence[Operation], str | None, int]:
    """Return a page, newest first, the cursor of the next page (None at the end), and the total without paging.

    Raises:
        BadInput: the cursor isn't one of ours, or the limit is out of 1 to 500.
    """
    if not 1 <= limit <= MOST_PER_PAGE:
        raise BadInput(f"limit: give a number from 1 to {MOST_PER_PAGE}.", subject="limit")
    before = _read_cursor(cursor) if cursor else None
    page = tx.operations.list(config=config, entry=entry, state=state, lane=lane, before=before, limit=limit + 1)
    items = page[:limit]
    more = _make_cursor(items[-1]) if len(page) > limit else None
    return items, more, tx.operations.count(config=config, entry=entry, state=state, lane=lane)


def get_operation(tx: UnitOfWork, operation_id: OperationID) -> Operation:
    """Return one operation. Raises NotFound."""
    operation = tx.operations.find(operation_id)
    if operation is None:
        raise NotFound(f"There is no operation {operation_id[:80]!r}.", subject="operation_id")
    return operation


def cancel(tx: UnitOfWork, operation: Operation, *, now: datetime) -> Operation:
    """End the operation, which the caller has locked; its new key is of no more use. What runs of it finds it ended."""
    order = tx.orders.find(operation.id, operation.attempt)
    if order is not None:
        tx.orders.drop_key(order.id)
    cancelled = operation.cancel(now=now)
    tx.operations.update(cancelled)
    return cancelled


def _make_cursor(last: Operation) -> str:
    text = f"{last.created_at.isoformat()} {last.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, OperationID]:
    refusal = BadInput("cursor: this is not a cursor of ours; take next_cursor as it was given.", subject="cursor")
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        instant, _, operation_id = text.partition(" ")
        created_at = datetime.fromisoformat(instant).astimezone(UTC)
    except (ValueError, OverflowError):
        raise refusal from None
    if not operation_id.isprintable():  # PostgreSQL refuses a NUL with an error of its own
        raise refusal
    return created_at, OperationID(operation_id)


def start(
    tx: UnitOfWork,
    entry: Entry,
    kind: OperationKind,
    *,
    priority: int,
    now: datetime,
    new_id: Callable[[], str],
    issuer: str = "",
) -> Operation:
    """Record an operation that gives the entry its next version, and its workflow, in this transaction.

    issuer: "" for the first one.

    Raises:
        LostRace: another one was started for the entry meanwhile; the repeated transaction finds it.
    """
    operation = new_operation(entry, kind, id=OperationID(new_id()), now=now, issuer_name=issuer)
    tx.operations.add(operation)
    tx.enqueue(job_of(operation, priority=priority))
    return operation

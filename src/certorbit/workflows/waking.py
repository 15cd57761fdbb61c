"""What a worker looks at anew when it starts, because the settings may be others than at the last start.

What nothing was to be done for, and what was held back because its CA was not configured (docs/decisions/0013). The
last worker that is restarted with new settings finds no older one left that could undo it, so nobody has to remember
what the settings were.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from certorbit.errors import NoIssuer
from certorbit.model.issuer_order import IssuerOrder, Origin, permitted
from certorbit.model.operation import Lane, Operation, OperationID, OperationState
from certorbit.ports.store import Store, UnitOfWork
from certorbit.workflows.permitting import find_permitted

log = structlog.get_logger(__name__)

PAGE: Final = 200  # operations per query

# Lets a waiting operation's next attempt start now, in the transaction; the operation is locked.
GoOn = Callable[[UnitOfWork, Operation, datetime], Operation]
OrderOf = Callable[[str], IssuerOrder]  # of a configuration


async def wake(store: Store, order_of: OrderOf, go_on: GoOn, *, now: datetime) -> None:
    """Wake what is idle, let go on what need not be held back any more, and warn of what still is. Repeatable."""
    await store.write(lambda tx: tx.schedules.wake_idle(now=now))
    operations = await _let_go_on(store, order_of, go_on, now=now)
    absent: Counter[str] = Counter()
    for maker in await store.read(lambda tx: tx.schedules.count_makers()):
        if not permitted(order_of(maker.config), Origin(made_by=maker.made_by), chosen=maker.chosen):
            absent[maker.made_by] += maker.certificates
    if absent or operations:
        log.warning(
            "renewal.no_issuer_at_start",
            certificates=absent.total(),
            operations=operations,
            issuers=sorted(absent),
            message="Their CA is not configured any more, and the built-in CA does not take over (docs/renewal.md)."
            " Nothing issues or renews them until it is configured again.",
        )


async def _let_go_on(store: Store, order_of: OrderOf, go_on: GoOn, *, now: datetime) -> int:
    """Let operations go on that were held back and need not be any more. Returns: how many still are."""
    held = 0
    before: tuple[datetime, OperationID] | None = None
    while page := await store.read(partial(_list_waiting, before=before)):
        for operation in page:
            if operation.problem is not None and operation.problem.type == NoIssuer.__name__:
                went_on = await store.write(partial(_go_on_one, operation.id, order_of, go_on, now=now))
                held += not went_on
        before = (page[-1].created_at, page[-1].id)
    return held


def _list_waiting(tx: UnitOfWork, *, before: tuple[datetime, OperationID] | None) -> Sequence[Operation]:
    return tx.operations.list(state=OperationState.WAITING, lane=Lane.ISSUANCE, before=before, limit=PAGE)


def _go_on_one(operation: OperationID, order_of: OrderOf, go_on: GoOn, tx: UnitOfWork, *, now: datetime) -> bool:
    """Start the operation's next attempt if somebody may issue. Returns: False: it stays held back."""
    fresh = tx.operations.lock(operation)
    if fresh is None or fresh.state is not OperationState.WAITING:
        return True
    if not find_permitted(tx, fresh, order_of(fresh.config)):
        return False
    go_on(tx, fresh, now)
    return True

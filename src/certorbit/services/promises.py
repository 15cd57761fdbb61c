"""What a client that waited is told: its certificate is there, goes on, or was refused (docs/decisions/0005)."""

from dataclasses import replace
from datetime import datetime

from certorbit.errors import Broken, IssuanceFailed
from certorbit.model.operation import Operation, OperationID, OperationState
from certorbit.ports.store import UnitOfWork


def promise(tx: UnitOfWork, operation_id: OperationID, *, now: datetime) -> Operation:
    """Write down that the client is told 201 though the issuance still runs, unless it ended meanwhile.

    From then on a failed attempt keeps the entry and is repeated. Returns the operation as it stands afterwards: the
    caller looks at its state, because the end may have come first.
    """
    operation = tx.operations.lock(operation_id)
    if operation is None:
        raise Broken(f"operation {operation_id} is gone")
    if operation.state.is_final or operation.promised:
        return operation
    promised = replace(operation, promised=True, updated_at=now)
    tx.operations.update(promised)
    return promised


def settle(operation: Operation) -> None:
    """Return if the operation succeeded or goes on.

    Raises:
        IssuanceFailed: it failed; the message holds the issuer's own text. Also if it was cancelled meanwhile.
    """
    if operation.state is OperationState.FAILED:
        text = operation.problem.message if operation.problem else "The issuance failed."
        raise IssuanceFailed(f"{text} No entry was created.", subject="domains")
    if operation.state is OperationState.CANCELLED:
        raise IssuanceFailed(
            f"The certificate {operation.entry_id!r} was deleted while it was being issued.", subject="entry_id"
        )

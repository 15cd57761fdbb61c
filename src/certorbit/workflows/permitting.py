"""Whose turn an operation is: the issuer that it was put to, if that one may issue, else the first that may."""

from collections.abc import Callable
from dataclasses import dataclass

from certorbit.model.issuer_order import IssuerOrder, explain_none, origin_of, permitted
from certorbit.model.operation import Operation, OperationID
from certorbit.ports.store import UnitOfWork


@dataclass(frozen=True, slots=True)
class Turn:
    """An operation, and the issuer whose turn it is. issuer: "": nobody's, and why not is the reason."""

    operation: Operation
    issuer: str
    reason: str


def find_permitted(tx: UnitOfWork, operation: Operation, order: IssuerOrder) -> tuple[str, ...]:
    """Return the issuers that may be asked for the operation's certificate, in order; none: it is held back."""
    schedule = tx.schedules.find(operation.entry_uid)
    entry = tx.entries.get_by_uid(operation.entry_uid)
    return permitted(order, origin_of(entry, operation), chosen=schedule.issuer if schedule else "")


def find_turn(tx: UnitOfWork, operation_id: OperationID, order_for_config: Callable[[str], IssuerOrder]) -> Turn | None:
    """Return the operation and whose turn it is; None: there is no such operation.

    The configuration's first issuer, unless the operation says another; nobody if none may be asked.
    """
    operation = tx.operations.find(operation_id)
    if operation is None:
        return None
    order = order_for_config(operation.config)
    if not order.built_in & {*order.names} or operation.issuer_name in order.built_in & {*order.names}:
        names: tuple[str, ...] = order.names  # nothing to be looked up: the built-in CA is no matter here
    else:
        names = find_permitted(tx, operation, order)
    if names:
        return Turn(operation, operation.issuer_name if operation.issuer_name in names else names[0], "")
    origin = origin_of(tx.entries.get_by_uid(operation.entry_uid), operation)
    return Turn(operation, "", explain_none(origin, order))

"""Deployments as users see them: which listener got which version, when, and what the handshakes showed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from certorbit.deploying.starting import PRIORITY_INTERACTIVE, ensure_deployment
from certorbit.errors import NotFound
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.deployment import Attachment, Rollout
from certorbit.model.entry import ConfigID, EntryID
from certorbit.model.operation import Lane, Operation, OperationID, OperationKind, OperationState
from certorbit.ports.store import UnitOfWork
from certorbit.services.certificates import check_not_built_in, get_entry
from certorbit.services.operations import list_operations

MOST_OF_ENTRY = 20  # deployments of one certificate in an answer


@dataclass(frozen=True, slots=True)
class Deployment:
    """An operation of kind deploy, and each listener's part of it in its latest attempt."""

    operation: Operation
    rollouts: tuple[Rollout, ...]


def list_deployments(
    tx: UnitOfWork,
    *,
    config: ConfigID | frozenset[ConfigID] | None,
    state: OperationState | None,
    cursor: str | None,
    limit: int,
) -> tuple[Sequence[Deployment], str | None, int]:
    """Return a page, newest first, the cursor of the next page (None at the end), and the total without paging.

    Raises:
        BadInput: the cursor isn't one of ours, or the limit is out of range.
    """
    items, more, total = list_operations(
        tx, config=config, entry=None, state=state, cursor=cursor, limit=limit, lane=Lane.DEPLOYMENT
    )
    return _join(tx, items), more, total


def get_deployment(tx: UnitOfWork, operation_id: OperationID) -> Deployment:
    """Return one deployment. Raises NotFound."""
    operation = tx.operations.find(operation_id)
    if operation is None or operation.kind is not OperationKind.DEPLOY:
        raise NotFound(f"There is no deployment {operation_id[:80]!r}.", subject="operation_id")
    return _join(tx, [operation])[0]


def list_of_certificate(
    tx: UnitOfWork, config: ConfigID, entry_id: EntryID
) -> tuple[Sequence[Deployment], int, Sequence[Attachment]]:
    """Return a certificate's newest deployments, how many there are, and where it is attached. Raises NotFound."""
    entry = get_entry(tx, config, entry_id)
    operations = tx.operations.list(config=config, entry=entry_id, lane=Lane.DEPLOYMENT, limit=MOST_OF_ENTRY)
    total = tx.operations.count(config=config, entry=entry_id, lane=Lane.DEPLOYMENT)
    return _join(tx, operations), total, tx.attachments.list_of_entry(entry.uid)


def deploy_now(
    tx: UnitOfWork, config: ConfigID, entry_id: EntryID, *, now: datetime, new_id: Callable[[], str]
) -> Operation | None:
    """Start the certificate's deployment, or its next attempt, now.

    Returns: None: it is attached nowhere, or not issued yet. Raises NotFound, BuiltIn.
    """
    entry = get_entry(tx, config, entry_id)
    check_not_built_in(entry.id)
    operation = ensure_deployment(tx, entry, priority=PRIORITY_INTERACTIVE, now=now, new_id=new_id)
    if operation is not None:
        tx.audit.add(
            AuditEvent(action=Action.DEPLOYMENT_STARTED, config=config, objects=(entry.id,), operation=operation.id),
            now=now,
        )
    return operation


def _join(tx: UnitOfWork, operations: Sequence[Operation]) -> list[Deployment]:
    rows: dict[OperationID, list[Rollout]] = {}
    for rollout in tx.rollouts.list([operation.id for operation in operations]):
        rows.setdefault(rollout.operation, []).append(rollout)
    return [Deployment(operation, tuple(rows.get(operation.id, ()))) for operation in operations]

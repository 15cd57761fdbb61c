"""What issuance writes down, one transaction each. Every function may run again with the same arguments."""

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, cast

from certorbit.errors import RetryRule
from certorbit.model.backoff import Uniform, next_attempt_at
from certorbit.model.entry import Source, Version, VersionID
from certorbit.model.material import CertificateFacts
from certorbit.model.operation import Operation, OperationID, OperationState, Problem
from certorbit.model.order import OrderIntent
from certorbit.ports.store import Job, UnitOfWork

PRIORITY_RETRY = 50  # engine.md: what nobody waits for comes after what somebody waits for


def begin_order(
    tx: UnitOfWork,
    operation_id: OperationID,
    attempt: int,
    *,
    make_intent: Callable[[Operation], OrderIntent],
    now: datetime,
) -> tuple[OrderIntent, bool] | None:
    """Write the order's intent, count its first request, and mark the operation as running.

    Returns: the intent and whether it is new (a repeat finds the first run's, an attempt after an outage the order of
    the one before); None if the operation ended or another attempt took over.
    """
    operation = tx.operations.lock(operation_id)
    if operation is None or operation.state.is_final or operation.attempt != attempt:
        return None
    existing = tx.orders.find(operation_id, attempt)
    intent = existing or make_intent(operation)
    if operation.state is not OperationState.RUNNING:
        tx.operations.update(
            replace(
                operation,
                state=OperationState.RUNNING,
                issuer_name=intent.issuer_name,
                updated_at=now,
                next_attempt_at=None,
            )
        )
    if existing is None:
        tx.orders.add(intent)
        tx.orders.count_request(intent.id, now=now)
    return intent, existing is None


def find_live_intent(tx: UnitOfWork, operation_id: OperationID, attempt: int) -> OrderIntent | None:
    """Return the attempt's order, or None if the operation ended (deleted meanwhile) or another attempt took over."""
    operation = tx.operations.find(operation_id)
    if operation is None or operation.state.is_final or operation.attempt != attempt:
        return None
    return tx.orders.find(operation_id, attempt)


def record_issued(
    tx: UnitOfWork,
    operation_id: OperationID,
    intent: OrderIntent,
    *,
    chain_pem: str,
    facts: CertificateFacts,
    now: datetime,
) -> bool:
    """Make the checked chain the entry's current version and end the operation.

    Returns: False if the operation ended meanwhile (the entry was deleted): nothing is stored then. True again if it
        was recorded before: a commit whose answer was lost is repeated.
    """
    operation = tx.operations.lock(operation_id)
    if operation is None or operation.state.is_final:
        return operation is not None and operation.state is OperationState.SUCCEEDED
    entry = tx.entries.get_by_uid(operation.entry_uid)
    if entry is None:
        tx.orders.drop_key(intent.id)
        tx.operations.update(replace(operation, state=OperationState.CANCELLED, updated_at=now, finished_at=now))
        return False
    tx.entries.add_version(
        Version(
            id=VersionID(intent.id),
            entry_uid=entry.uid,
            created_at=now,
            source=Source.GENERATED,
            chain_pem=chain_pem,
            sealed_key=intent.sealed_key,
            facts=facts,
            le_hash=intent.identifiers_hash,
            issuer_name=intent.issuer_name,
        )
    )
    tx.orders.drop_key(intent.id)
    tx.operations.update(
        replace(
            operation,
            state=OperationState.SUCCEEDED,
            updated_at=now,
            finished_at=now,
            next_attempt_at=None,
            problem=None,
        )
    )
    return True


def is_issued(tx: UnitOfWork, operation_id: OperationID) -> bool:
    """Return whether the operation ended with a certificate."""
    operation = tx.operations.find(operation_id)
    return operation is not None and operation.state is OperationState.SUCCEEDED


def record_failure(
    tx: UnitOfWork,
    operation_id: OperationID,
    attempt: int,
    problem: Problem,
    *,
    now: datetime,
    uniform: Uniform,
) -> Operation | None:
    """Record a failed attempt and what follows from it (docs/decisions/0005).

    Nobody was told 201 and trying again is of no use: the operation fails and its entry goes. Otherwise the next
    attempt is enqueued for later in this same transaction.

    Returns: the operation as it stands afterwards; None if this attempt was concluded before.
    """
    operation = tx.operations.lock(operation_id)
    if operation is None or operation.state.is_final or operation.attempt != attempt:
        return None
    ends = problem.retry is RetryRule.NEVER and not operation.promised
    intent = tx.orders.find(operation_id, attempt)
    if intent is not None and problem.keeps_order and not ends:
        tx.orders.carry_over(intent.id, attempt=attempt + 1)
    elif intent is not None:
        tx.orders.drop_key(intent.id)
    if ends:
        failed = replace(
            operation,
            state=OperationState.FAILED,
            updated_at=now,
            finished_at=now,
            next_attempt_at=None,
            problem=problem,
        )
        tx.operations.update(failed)
        tx.entries.delete(operation.entry_uid)
        return failed
    due = next_attempt_at(problem, attempt=attempt, now=now, uniform=uniform)
    waiting = replace(
        operation,
        state=OperationState.WAITING,
        attempt=attempt + 1,
        updated_at=now,
        next_attempt_at=due,
        problem=problem,
    )
    tx.operations.update(waiting)
    tx.enqueue(
        Job(
            workflow_id=waiting.workflow_id,
            operation=operation_id,
            attempt=waiting.attempt,
            priority=PRIORITY_RETRY,
            delay_seconds=max(0.0, (due - now).total_seconds()),
        )
    )
    return waiting


def problem_to_json(problem: Problem) -> dict[str, object]:
    """Return the problem as a value for a checkpoint."""
    return asdict(problem) | {"retry_at": problem.retry_at.isoformat() if problem.retry_at else None}


def problem_from_json(value: object) -> Problem:
    """Return what `problem_to_json` wrote."""
    fields = cast("dict[str, Any]", value)
    instant = fields["retry_at"]
    return Problem(
        message=fields["message"],
        type=fields["type"],
        detail=fields["detail"],
        subproblems=dict(fields["subproblems"]),
        retry=RetryRule(fields["retry"]),
        retry_at=datetime.fromisoformat(instant) if instant else None,
        keeps_order=bool(fields["keeps_order"]),
    )


def broken_problem(error_id: str) -> dict[str, object]:
    """Return the problem that stands for a bug of ours: its text stays in the log, under this id."""
    message = f"An internal error stopped the issuance; the log has it under reference {error_id}."
    return problem_to_json(
        Problem(message=message, type="Broken", detail=message, subproblems={}, retry=RetryRule.BACKOFF)
    )

"""What stands between an operation and its order: the CA's limits, and names that failed (docs/limits.md)."""

from collections.abc import Sequence
from datetime import datetime

from certorbit.errors import RetryRule
from certorbit.limiting.failures import find_held_back, note_failures, note_success
from certorbit.limiting.orders import give_back, note_rate_limited, take
from certorbit.model.backoff import Uniform
from certorbit.model.ca_limits import AccountKey, CALimits, OrderKind, OrderRequest
from certorbit.model.entry import Entry, Version
from certorbit.model.identifier_failure import (
    FAILING,
    LIMITED,
    IdentifierFailure,
    explain_failing,
    failed_identifiers,
    sentences_of,
)
from certorbit.model.limits import Wait
from certorbit.model.operation import Operation, OperationKind, Problem
from certorbit.model.order import OrderIntent
from certorbit.model.schedule import Schedule
from certorbit.ports.store import UnitOfWork


def admit(
    tx: UnitOfWork, operation: Operation, intent: OrderIntent, *, limits: CALimits | None, now: datetime
) -> OrderKind | Problem:
    """Take what an order needs of the CA's limits, in the transaction that writes its intent.

    Args:
        operation: locked by the caller.
        intent: the order's intent; whether it is stored already doesn't matter.
        limits: those of the intent's CA; None: it has none.

    Returns: what the order is to the CA; or why it has to wait and until when: then nothing was counted, and nothing
        may be sent.
    """
    entry = tx.entries.get_by_uid(operation.entry_uid) if operation.kind is not OperationKind.ISSUE else None
    held_back = _find_held_back(tx, operation, intent, entry=entry, now=now)
    if held_back:
        return _failing_problem(held_back)
    order = OrderRequest(_account(intent), intent.identifiers, _kind(tx, entry, intent, limits=limits, now=now))
    verdict = take(tx, order, limits=limits, now=now, has_waited=_has_waited(operation, now=now))
    return _limited_problem(verdict) if isinstance(verdict, Wait) else order.kind


def admit_again(
    tx: UnitOfWork, intent: OrderIntent, *, limits: CALimits | None, now: datetime, names_predecessor: bool
) -> Problem | None:
    """Count one more newOrder for an intent: its first answer was lost, or the CA refused it with `replaces`.

    Returns: None: it is counted and may be sent. Else why it has to wait; the intent is kept for then.
    """
    operation = tx.operations.find(intent.operation)
    entry = tx.entries.get_by_uid(operation.entry_uid) if operation and limits else None
    kind = _kind(tx, entry, intent, limits=limits, now=now)
    if kind is OrderKind.ARI_RENEWAL and not names_predecessor:
        kind = OrderKind.RENEWAL
    order = OrderRequest(_account(intent), intent.identifiers, kind)
    # One certificate at most comes of an intent, however often it is asked for.
    release(tx, intent, was_sent=True, limits=limits, now=now)
    verdict = take(
        tx, order, limits=limits, now=now, has_waited=operation is not None and _has_waited(operation, now=now)
    )
    if isinstance(verdict, Wait):
        return _limited_problem(verdict, keeps_order=True)
    tx.orders.count_request(intent.id, now=now, kind=kind)
    return None


def release(tx: UnitOfWork, intent: OrderIntent, *, was_sent: bool, limits: CALimits | None, now: datetime) -> None:
    """Give back what the intent's last request took of the certificates' limits: no certificate comes of it.

    CAs count the certificates that they issue; ours are counted when they are asked for, so that two at once can't
    take the last one. Without this the ladder's tries in an outage use up a week's certificates, and the CA's return
    finds us waiting for a limit that it knows nothing of.

    was_sent: False: the request never reached the CA, which has not counted an order either.
    """
    last = tx.orders.last_request(intent.id)
    if last is None:
        return
    kind, sent_at = last
    remains = OrderKind.BARREN if kind in {OrderKind.NEW, OrderKind.BARREN} and was_sent else OrderKind.UNCOUNTED
    if kind is remains or kind is OrderKind.ARI_RENEWAL:
        return
    order = OrderRequest(_account(intent), intent.identifiers, kind)
    give_back(tx, order, remains=remains, limits=limits, spent_at=sent_at, now=now)
    tx.orders.recount(intent.id, remains)


def is_released(tx: UnitOfWork, intent: OrderIntent) -> bool:
    """Return whether what the intent took of the certificates' limits was given back."""
    last = tx.orders.last_request(intent.id)
    return last is not None and last[0] in {OrderKind.BARREN, OrderKind.UNCOUNTED}


def note_problem(
    tx: UnitOfWork,
    operation: Operation,
    intent: OrderIntent,
    problem: Problem,
    *,
    limits: CALimits | None,
    now: datetime,
    uniform: Uniform,
) -> datetime | None:
    """Remember what a failed attempt teaches: names that fail, a bucket that the CA calls empty.

    Returns: when the names that failed may be tried again; None: none failed.
    """
    if _is_rate_limited(problem) and problem.retry_at is not None:
        order = OrderRequest(_account(intent), intent.identifiers, OrderKind.NEW)
        note_rate_limited(tx, order, detail=problem.detail, until=problem.retry_at, limits=limits, now=now)
    return note_failures(
        tx,
        _account(intent),
        failed_identifiers(problem, intent.identifiers),
        since=_asked_at(operation),
        limits=limits,
        now=now,
        uniform=uniform,
    )


def note_issued(tx: UnitOfWork, intent: OrderIntent, *, limits: CALimits | None) -> None:
    """Forget that the order's names ever failed."""
    note_success(tx, _account(intent), intent.identifiers, limits=limits)


def _account(intent: OrderIntent) -> AccountKey:
    return AccountKey(intent.account, intent.issuer_name)


def _asked_at(operation: Operation) -> datetime | None:
    """Return when an operator asked for the operation: what failed before then doesn't hold it back."""
    return operation.created_at if operation.kind is OperationKind.ISSUE else None


def _find_held_back(
    tx: UnitOfWork, operation: Operation, intent: OrderIntent, *, entry: Entry | None, now: datetime
) -> Sequence[IdentifierFailure]:
    asked_at = _asked_at(operation)
    if asked_at is not None and operation.attempt == 1:
        return ()  # it was asked for just now: nothing has failed since
    version = entry.current if entry else None
    return find_held_back(
        tx,
        _account(intent),
        intent.identifiers,
        since=asked_at,
        not_after=version.facts.not_after if version else None,
        now=now,
    )


def _kind(
    tx: UnitOfWork, entry: Entry | None, intent: OrderIntent, *, limits: CALimits | None, now: datetime
) -> OrderKind:
    """Return what the order is to the CA, on the safe side: new, unless we know better."""
    version = entry.current if entry else None
    if entry is None or version is None or version.issuer_name != intent.issuer_name:
        return OrderKind.NEW
    if limits is not None and _has_open_window(tx.schedules.find(entry.uid), version, now=now):
        return OrderKind.ARI_RENEWAL
    return OrderKind.RENEWAL if version.le_hash == intent.identifiers_hash else OrderKind.NEW


def _has_open_window(schedule: Schedule | None, version: Version, *, now: datetime) -> bool:
    """Return whether the CA wants the version renewed now.

    facts.md 2: Let's Encrypt exempts an order only while the window is open, whatever `replaces` says.
    """
    info = schedule.info if schedule else None
    if info is None or info.start is None or info.end is None or info.checked_at < version.created_at:
        return False  # what was said of an older version is no window of this one
    return info.start <= now < info.end


def _has_waited(operation: Operation, *, now: datetime) -> bool:
    """Return whether the operation stood in the line of this CA: after a change of the issuer it has not."""
    problem = operation.problem
    return problem is not None and problem.type == LIMITED and problem.retry_at is not None and problem.retry_at <= now


def _is_rate_limited(problem: Problem) -> bool:
    """Return whether the CA itself refused for a limit: only outages and these keep the order."""
    return problem.keeps_order and problem.type not in {"Unreachable", LIMITED, FAILING}


def _limited_problem(wait: Wait, *, keeps_order: bool = False) -> Problem:
    return Problem(
        message=f"It waits, so that the CA's limit is not exceeded. {wait.message}.",
        type=LIMITED,
        detail=wait.message,
        subproblems={},
        retry=RetryRule.AT,
        retry_at=wait.until,
        keeps_order=keeps_order,
        blames_issuer=not wait.rule.is_about_names,
    )


def _failing_problem(failing: Sequence[IdentifierFailure]) -> Problem:
    until = max(failure.next_at for failure in failing)
    message = explain_failing(failing, until=until)
    return Problem(
        message=f"It waits, because the CA could not validate it not long ago. {message}",
        type=FAILING,
        detail=message,
        subproblems=dict(sentences_of(failing)),
        retry=RetryRule.AT,
        retry_at=until,
    )

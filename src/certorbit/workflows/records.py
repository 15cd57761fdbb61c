"""What issuance writes down, one transaction each. Every function may run again with the same arguments."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from certorbit.deploying.starting import PRIORITY_ROLLOUT, ensure_deployment
from certorbit.errors import RetryRule
from certorbit.model.backoff import Uniform, next_attempt_at
from certorbit.model.ca_limits import CALimits
from certorbit.model.change_states import SERVICE, change_of_attachment, change_of_entry, change_of_site
from certorbit.model.entry import Entry, Side, Source, Version, VersionID
from certorbit.model.failover import (
    ALL_ALIKE,
    OrderByConfig,
    next_issuer,
    next_turn,
    note_held,
    rung,
)
from certorbit.model.issuer_order import order_of
from certorbit.model.material import CertificateFacts
from certorbit.model.operation import Operation, OperationID, OperationKind, OperationState, Problem, problem_to_json
from certorbit.model.order import OrderIntent
from certorbit.model.renewal import next_try_at
from certorbit.model.schedule import Schedule
from certorbit.pki.chain import check_for_clients
from certorbit.ports.store import UnitOfWork, job_of
from certorbit.workflows.admission import admit, note_issued, note_problem, release
from certorbit.workflows.audited import record_issued_version
from certorbit.workflows.permitting import find_permitted

PRIORITY_RETRY = 50  # engine.md: what nobody waits for comes after what somebody waits for


def begin_order(
    tx: UnitOfWork,
    operation_id: OperationID,
    attempt: int,
    *,
    make_intent: Callable[[Operation], OrderIntent],
    limits: CALimits | None = None,
    now: datetime,
) -> tuple[OrderIntent, bool] | Problem | None:
    """Write the order's intent, count its first request, and mark the operation as running.

    limits: the issuer's; None: its CA has none.

    Returns: the intent and whether it is new (a repeat finds the first run's, an attempt after an outage the order of
    the one before); why the order has to wait (docs/limits.md): then nothing was written but its place in the line;
    None if the operation ended or another attempt took over.
    """
    operation = tx.operations.lock(operation_id)
    if operation is None or operation.state.is_final or operation.attempt != attempt:
        return None
    existing = tx.orders.find(operation_id, attempt)
    intent = existing or make_intent(operation)
    if existing is None:
        kind = admit(tx, operation, intent, limits=limits, now=now)
        if isinstance(kind, Problem):
            # Who is limited must be known afterwards: another issuer may take over.
            tx.operations.update(replace(operation, issuer_name=intent.issuer_name, updated_at=now))
            return kind
        tx.orders.add(intent)
        tx.orders.count_request(intent.id, now=now, kind=kind)
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
    return intent, existing is None


def find_live_intent(tx: UnitOfWork, operation_id: OperationID, attempt: int) -> OrderIntent | None:
    """Return the attempt's order, or None if the operation ended (deleted meanwhile) or another attempt took over."""
    operation = tx.operations.find(operation_id)
    if operation is None or operation.state.is_final or operation.attempt != attempt:
        return None
    return tx.orders.find(operation_id, attempt)


def find_current_version(tx: UnitOfWork, operation_id: OperationID) -> Version | None:
    """Return the version that the operation is to follow, if its entry has one."""
    operation = tx.operations.find(operation_id)
    entry = tx.entries.get_by_uid(operation.entry_uid) if operation else None
    return entry.current if entry else None


def record_issued(  # noqa: PLR0913 - one transaction, and all that becomes true with it
    tx: UnitOfWork,
    operation_id: OperationID,
    intent: OrderIntent,
    *,
    chain_pem: str,
    facts: CertificateFacts,
    limits: CALimits | None = None,
    now: datetime,
    new_id: Callable[[], str],
) -> bool:
    """Make the checked chain the entry's current version, start its deployment, and end the operation.

    Returns: False if the operation ended meanwhile (the entry was deleted): nothing is stored then. True again if it
        was recorded before: a commit whose answer was lost is repeated.

    Raises:
        BadIssue: the entry is to be shown to servers, and the certificate is not for clients.
    """
    operation = tx.operations.lock(operation_id)
    if operation is None or operation.state.is_final:
        return operation is not None and operation.state is OperationState.SUCCEEDED
    entry = tx.entries.get_by_uid(operation.entry_uid)
    if entry is None:
        tx.orders.drop_key(intent.id)
        tx.operations.update(replace(operation, state=OperationState.CANCELLED, updated_at=now, finished_at=now))
        return False
    if entry.side is Side.SERVER_TO_BACKEND_MTLS:
        check_for_clients(chain_pem)
    version = Version(
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
    tx.entries.add_version(version)
    deployed = replace(entry, current=version)
    ensure_deployment(tx, deployed, priority=PRIORITY_ROLLOUT, now=now, new_id=new_id)
    # The next sweep asks the CA for its renewal window (RFC 9773 §4.3: right after issuance) and decides.
    # What was known of the predecessor is dropped: its window is over, so the successor would be due at once as well.
    schedule = tx.schedules.find(entry.uid) or Schedule(entry_uid=entry.uid, look_at=now)
    before = entry.current.facts.not_before if entry.current else None
    tx.schedules.put(replace(schedule, look_at=now, renew_at=None, reason="", info=None, predecessor_not_before=before))
    note_issued(tx, intent, limits=limits)
    record_issued_version(tx, operation, entry, deployed, now=now)
    tx.orders.drop_key(intent.id)
    ended = replace(operation, state=OperationState.SUCCEEDED, updated_at=now, finished_at=now)
    tx.operations.update(replace(ended, next_attempt_at=None, problem=None))
    return True


def is_issued(tx: UnitOfWork, operation_id: OperationID) -> bool:
    """Return whether the operation ended with a certificate."""
    operation = tx.operations.find(operation_id)
    return operation is not None and operation.state is OperationState.SUCCEEDED


def record_failure(  # noqa: PLR0913 - one transaction, and all that decides what follows
    tx: UnitOfWork,
    operation_id: OperationID,
    attempt: int,
    problem: Problem,
    *,
    issuers: Mapping[str, CALimits | None],
    directories: Mapping[str, str] | None = None,
    by_config: OrderByConfig = ALL_ALIKE,
    now: datetime,
    uniform: Uniform,
    is_barren: bool = False,
) -> Operation | None:
    """Record a failed attempt and what follows from it (docs/decisions/0005, docs/renewal.md).

    If the issuer is to blame and there is another one, that one tries at once. Else, if nobody was told 201 and
    trying again is of no use, the operation fails and its entry goes. Otherwise the next attempt is enqueued for
    later, with the first issuer again; all in this same transaction.

    Args:
        issuers: all names, in order of preference, each with its CA's limits.
        directories: of all issuers; None: none of them is the built-in CA.
        by_config: see `failover.order_for`.
        is_barren: the CA was not asked for the certificate yet, so none comes of the order if it is given up.

    Returns: the operation as it stands afterwards; None if this attempt was concluded before.
    """
    operation = tx.operations.lock(operation_id)
    if operation is None or operation.state.is_final or operation.attempt != attempt:
        return None
    order = order_of(operation.config, directories or dict.fromkeys(issuers, ""), by_config)
    names = find_permitted(tx, operation, order)
    # An attempt that had to wait for a limit has noted no issuer.
    current = operation.issuer_name or next(iter(names), "")
    held = note_held(operation.problem.held if operation.problem else {}, current, problem, now=now, uniform=uniform)
    successor = next_issuer(names, current, problem, held=held, now=now)
    ends = successor is None and problem.retry is RetryRule.NEVER and _may_end(operation)
    intent = tx.orders.find(operation_id, attempt)
    not_before = None
    if intent is not None:
        limits = issuers.get(intent.issuer_name)
        not_before = note_problem(tx, operation, intent, problem, limits=limits, now=now, uniform=uniform)
    then, due = successor or "", now
    if not successor and not ends:
        # What names that failed are held back for is one ladder for all their certificates, not for this operation.
        number = operation.count_attempts(attempt)
        planned = not_before or _ladder_at(problem, rung(number, names), now=now, uniform=uniform)
        planned = _bring_forward(tx, operation, problem, planned, now=now)
        # Held back, it stays with the issuer that isn't there, and so does its order.
        then, due = next_turn(names, current, planned=planned, held=held, now=now) if names else (current, planned)
    if intent is not None and problem.keeps_order and then == intent.issuer_name:
        tx.orders.carry_over(intent.id, attempt=attempt + 1)
    elif intent is not None:
        tx.orders.drop_key(intent.id)
        if is_barren:
            release(tx, intent, was_sent=True, limits=issuers.get(intent.issuer_name), now=now)
    if ends:
        return _end(tx, operation, problem, now=now)
    return _plan_next(tx, replace(operation, issuer_name=then), replace(problem, held=held), due=due, now=now)


def _end(tx: UnitOfWork, operation: Operation, problem: Problem, *, now: datetime) -> Operation:
    failed = replace(
        operation,
        state=OperationState.FAILED,
        updated_at=now,
        finished_at=now,
        next_attempt_at=None,
        problem=problem,
    )
    tx.operations.update(failed)
    entry = tx.entries.get_by_uid(operation.entry_uid)
    if entry is not None:
        _take_away(tx, entry, operation=operation.id, now=now)
    return failed


def _take_away(tx: UnitOfWork, entry: Entry, *, operation: OperationID, now: datetime) -> None:
    """Delete the entry of a failed issuance; a server group that named it already serves `placeholder`."""
    tx.configurations.lock(entry.config)
    changes = []
    for site in tx.sites.list_using(entry.config, entry.id):
        tx.sites.put(site.without(entry.id))
        changes.append(change_of_site(site, site.without(entry.id)))
    for attachment in tx.attachments.list_of_entry(entry.uid):  # wished for while it was being issued
        tx.attachments.delete(attachment.id)
        changes.append(change_of_attachment(attachment, None))
    tx.entries.delete(entry.uid)
    changes.append(change_of_entry(entry, None))
    tx.configurations.record(entry.config, changes, by=SERVICE, now=now, operation=operation)


def _plan_next(tx: UnitOfWork, operation: Operation, problem: Problem, *, due: datetime, now: datetime) -> Operation:
    waiting = operation.wait_until(due, problem, now=now)
    tx.operations.update(waiting)
    tx.enqueue(job_of(waiting, priority=PRIORITY_RETRY, not_before_seconds=(due - now).total_seconds()))
    return waiting


def _ladder_at(problem: Problem, rung: int, *, now: datetime, uniform: Uniform) -> datetime:
    """Return the ladder's instant, or the one that the names have to wait for.

    What an issuer has to be waited for is not known here: `next_turn` looks after it.
    """
    if problem.blames_issuer:
        problem = replace(problem, retry=RetryRule.BACKOFF)
    return next_attempt_at(problem, attempt=rung, now=now, uniform=uniform)


def _bring_forward(tx: UnitOfWork, operation: Operation, problem: Problem, due: datetime, *, now: datetime) -> datetime:
    """Return the ladder's instant, earlier if the certificate in use ends soon; an instant that was named stays."""
    entry = tx.entries.get_by_uid(operation.entry_uid)
    is_named = problem.retry is RetryRule.AT and not problem.blames_issuer
    if is_named or entry is None or entry.current is None:
        return due
    return next_try_at(due, failed_at=now, not_after=entry.current.facts.not_after)


def _may_end(operation: Operation) -> bool:
    """Return whether a refusal ends the operation and takes the entry with it: a new one, of which nobody was told."""
    return operation.kind is OperationKind.ISSUE and not operation.promised


def broken_problem(error_id: str) -> dict[str, object]:
    """Return the problem that stands for a bug of ours: its text stays in the log, under this id."""
    message = f"An internal error stopped the issuance; the log has it under reference {error_id}."
    return problem_to_json(
        Problem(message=message, type="Broken", detail=message, subproblems={}, retry=RetryRule.BACKOFF)
    )

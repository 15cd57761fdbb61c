"""What a deployment writes down, one transaction each. Every function may run again with the same arguments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate

from certorbit.deploying.client_policies import ClientPolicies
from certorbit.deploying.locking import lock_attachments_of
from certorbit.deploying.starting import PRIORITY_ROLLOUT, ensure_deployment, start_next_attempt
from certorbit.errors import DeployFailed, RetryRule, Throttled
from certorbit.model.backoff import LADDER, Uniform, next_attempt_at
from certorbit.model.balancer import HeldCopy
from certorbit.model.deployment import Attachment, AttachmentID, Rollout, Snapshot, Stage, Wanted
from certorbit.model.entry import Entry, EntryUID, Version, VersionID
from certorbit.model.operation import Operation, OperationID, OperationState, Problem
from certorbit.ports.store import UnitOfWork, job_of
from certorbit.workflows.audited import record_deployment_end

PRIORITY_RETRY = 50
_FINAL = frozenset(error.__name__ for error in DeployFailed.__subclasses__() if error is not Throttled)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt has to do. version: None: there is none yet, or nothing is to be put anywhere."""

    entry: Entry
    version: Version | None
    attach: tuple[Attachment, ...]
    detach: tuple[Attachment, ...]


def plan(tx: UnitOfWork, operation_id: OperationID, attempt: int, *, now: datetime) -> Plan | None:
    """Begin the attempt: choose the version, and write a row for each listener that is to be changed.

    Returns: None if the operation ended, another attempt took over, or the entry is gone.
    """
    operation = _lock(tx, operation_id, attempt)
    if operation is None:
        return None
    entry = tx.entries.get_by_uid(operation.entry_uid)
    if entry is None:
        tx.operations.update(_ended(operation, OperationState.CANCELLED, now=now))
        return None
    rows = tx.attachments.list_of_entry(entry.uid)
    version = entry.current
    attach = tuple(list_behind(tx, entry, rows))
    detach = tuple(row for row in rows if row.wanted is Wanted.DETACHED)
    earlier = {row.attachment: row for row in tx.rollouts.list([operation_id])}
    for attachment in (*attach, *detach):
        tx.rollouts.put(_begin_row(operation_id, attachment, version, earlier.get(attachment.id), now=now))
    tx.operations.update(replace(operation, state=OperationState.RUNNING, updated_at=now, next_attempt_at=None))
    return Plan(entry, version if attach else None, attach, detach)


def list_behind(tx: UnitOfWork, entry: Entry, rows: Sequence[Attachment]) -> list[Attachment]:
    """Return the listeners that aren't yet proven to serve the current version as it is wanted, and to whom.

    None if there is no version yet.
    """
    version = entry.current
    if version is None:
        return []
    policies = ClientPolicies(tx, entry)
    return [
        row
        for row in rows
        if row.wanted is Wanted.ATTACHED
        and (row.stage is not Stage.PROVEN or row.version != version.id or not policies.is_in_force(row))
    ]


def find_work(
    tx: UnitOfWork, operation_id: OperationID, attempt: int, version: VersionID | None, attachments: Sequence[str]
) -> tuple[Entry, Version | None, tuple[Attachment, ...]] | None:
    """Return what a later step of the attempt works with; None if the attempt is over.

    Attachments that are gone, or not wanted as the plan had them, are left out: the next attempt sees to them.
    """
    operation = tx.operations.find(operation_id)
    if operation is None or operation.state.is_final or operation.attempt != attempt:
        return None
    entry = tx.entries.get_by_uid(operation.entry_uid)
    if entry is None:
        return None
    found = tx.attachments.list_some([AttachmentID(one) for one in attachments])
    return entry, _find_version(tx, entry, version), tuple(row for row in found if row.entry_uid == entry.uid)


def _find_version(tx: UnitOfWork, entry: Entry, version: VersionID | None) -> Version | None:
    if version is None:
        return None
    if entry.current is not None and entry.current.id == version:
        return entry.current
    return next((one for one in tx.entries.list_versions(entry.uid) if one.id == version), None)


def record_detached(
    tx: UnitOfWork, operation_id: OperationID, attachment: Attachment, problem: Problem | None, *, now: datetime
) -> None:
    """Write down that a listener let go of the entry, or why it did not. The row goes with the wish."""
    rollout = tx.rollouts.find(operation_id, attachment.id)
    stage = Stage.FAILED if problem else Stage.DETACHED
    if rollout is not None:
        tx.rollouts.put(replace(rollout, stage=stage, problem=problem, updated_at=now))
    tx.attachments.lock_listener(attachment.listener)
    fresh = tx.attachments.find(attachment.id)
    if fresh is None:
        return
    if problem is not None:
        tx.attachments.update(replace(fresh, problem=problem, updated_at=now))
    elif fresh.wanted is Wanted.DETACHED:
        tx.attachments.delete(fresh.id)
    else:  # attached again meanwhile
        tx.attachments.update(replace(fresh, stage=Stage.PENDING, version=None, handle="", updated_at=now))


def doom_copies(tx: UnitOfWork, entry: EntryUID, *, now: datetime) -> Sequence[HeldCopy]:
    """Return the entry's copies that are of no more use, marked as such.

    A copy is kept while any listener may need it: old ones go when all listeners are proven to serve the new version.
    """
    rows = tx.attachments.list_of_entry(entry)
    found = tx.entries.get_by_uid(entry)
    is_settled = found is None or not list_behind(tx, found, rows)
    used = {(row.listener.target, row.handle) for row in rows}
    doomed: list[HeldCopy] = []
    for copy in tx.copies.list_of_entry(entry):
        if (copy.target, copy.handle) in used or (rows and not is_settled):
            continue
        if not copy.is_doomed:
            tx.copies.put(replace(copy, is_doomed=True, updated_at=now))
        doomed.append(copy)
    return doomed


def finish(
    tx: UnitOfWork,
    operation_id: OperationID,
    attempt: int,
    *,
    now: datetime,
    new_id: Callable[[], str],
    uniform: Uniform,
) -> Operation | None:
    """End the attempt: the operation succeeded, failed, or goes on with another attempt, now or later.

    A listener that nobody was told 200 of, and that failed for good, is not wanted any more. Returns: the operation as
    it stands afterwards; None if the attempt was over.
    """
    operation = _lock(tx, operation_id, attempt)
    if operation is None:
        return None
    entry = tx.entries.get_by_uid(operation.entry_uid)
    if entry is None:
        ended = _ended(operation, OperationState.CANCELLED, now=now)
        tx.operations.update(ended)
        return ended
    rollouts = {row.attachment: row for row in tx.rollouts.list([operation_id])}
    held = lock_attachments_of(tx, entry.uid)
    withdrawn = [row for row in held if _withdraw(tx, row, rollouts.get(row.id), now=now)]
    if withdrawn:
        doom_copies(tx, entry.uid, now=now)  # what was installed for them: nobody else would ever take it away
    rows = tx.attachments.list_of_entry(entry.uid)
    behind = list_behind(tx, entry, rows)
    open_rows = [row for row in rows if row.wanted is Wanted.DETACHED or row in behind]
    _release_replaced(tx, rows, now=now, new_id=new_id)
    failed = [row for row in open_rows if row.problem is not None]
    if failed:
        return _wait(tx, operation, _summarise(rows, failed, behind), now=now, uniform=uniform)
    if open_rows and entry.current is not None:
        # Something was asked for while the attempt ran.
        return start_next_attempt(tx, operation, priority=PRIORITY_ROLLOUT, now=now)
    if withdrawn:
        problem = next(rollouts[row.id].problem for row in withdrawn)
        ended = replace(_ended(operation, OperationState.FAILED, now=now), problem=problem)
    else:
        ended = replace(_ended(operation, OperationState.SUCCEEDED, now=now), problem=None)
    tx.operations.update(ended)
    record_deployment_end(tx, ended, rollouts.values(), now=now)
    return ended


def record_broken(
    tx: UnitOfWork, operation_id: OperationID, attempt: int, error_id: str, *, now: datetime, uniform: Uniform
) -> Operation | None:
    """Record that a bug of ours stopped the attempt; the next one looks at everything anew."""
    operation = _lock(tx, operation_id, attempt)
    if operation is None:
        return None
    message = f"An internal error stopped the deployment; the log has it under reference {error_id}."
    problem = Problem(message=message, type="Broken", detail=message, subproblems={}, retry=RetryRule.BACKOFF)
    return _wait(tx, operation, problem, now=now, uniform=uniform)


def _withdraw(tx: UnitOfWork, row: Attachment, rollout: Rollout | None, *, now: datetime) -> bool:
    """Take back a wish of which nobody was told that it is fulfilled, if it failed for good."""
    if row.promised or rollout is None or rollout.problem is None or row.problem is None:
        return False
    if rollout.problem.type not in _FINAL or rollout.stage is Stage.UNSETTLED:
        return False
    if row.wanted is Wanted.DETACHED:
        tx.attachments.update(replace(row, wanted=Wanted.ATTACHED, promised=True, problem=None, updated_at=now))
        return True
    if row.version is not None:  # it was there before and only its default was to change
        tx.attachments.update(replace(row, is_default=False, promised=True, stage=Stage.PENDING, updated_at=now))
    else:
        tx.attachments.delete(row.id)
    _give_default_back(tx, row, rollout.before, now=now)
    return True


def _give_default_back(tx: UnitOfWork, row: Attachment, before: Snapshot | None, *, now: datetime) -> None:
    if not row.is_default or before is None or not before.default:
        return
    for other in tx.attachments.list_of_listener(row.listener):
        if other.id != row.id and other.handle == before.default:
            tx.attachments.update(replace(other, is_default=True, updated_at=now))


def _release_replaced(tx: UnitOfWork, rows: Sequence[Attachment], *, now: datetime, new_id: Callable[[], str]) -> None:
    """Take the entries off whose place was taken and proven."""
    for row in rows:
        if row.replaces is None or row.stage is not Stage.PROVEN:
            continue
        tx.attachments.update(replace(row, replaces=None, updated_at=now))
        old = tx.entries.get_by_uid(row.replaces)
        if old is None:
            continue
        for other in tx.attachments.list_of_entry(old.uid):
            if other.listener == row.listener:
                tx.attachments.update(
                    replace(other, wanted=Wanted.DETACHED, is_default=False, promised=True, updated_at=now)
                )
        ensure_deployment(tx, old, priority=PRIORITY_ROLLOUT, now=now, new_id=new_id)


def _begin_row(
    operation: OperationID, attachment: Attachment, version: Version | None, earlier: Rollout | None, *, now: datetime
) -> Rollout:
    """Return the attempt's row of a listener. One that was left in the middle keeps what it held before."""
    is_open = earlier is not None and earlier.stage in {Stage.CHANGING, Stage.UNSETTLED}
    is_attached = attachment.wanted is Wanted.ATTACHED
    return Rollout(
        operation=operation,
        attachment=attachment.id,
        listener=attachment.listener,
        is_default=attachment.is_default,
        from_version=earlier.from_version if is_open and earlier else attachment.version,
        to_version=version.id if version and is_attached else None,
        stage=Stage.CHANGING if is_open else Stage.PENDING,
        updated_at=now,
        before=earlier.before if is_open and earlier else None,
    )


def _summarise(rows: Sequence[Attachment], failed: Sequence[Attachment], behind: Sequence[Attachment]) -> Problem:
    """Return one problem that says how many listeners serve what: a mixed state is never silent."""
    proven = sum(1 for row in rows if row not in failed and row not in behind)
    first = failed[0].problem
    assert first is not None  # the caller chose them by it
    message = first.message
    if len(rows) > 1:
        untouched = len(rows) - proven - len(failed)
        unsettled = sum(row.stage is Stage.UNSETTLED for row in failed)
        counts = ((len(failed) - unsettled, "failed"), (unsettled, "unsettled"), (untouched, "were not changed"))
        parts = "".join(f", {count} {what}" for count, what in counts if count)
        message = f"{proven} of {len(rows)} listeners serve it{parts}. The first: {first.message}"
    return replace(first, message=message, detail=message)


def _wait(tx: UnitOfWork, operation: Operation, problem: Problem, *, now: datetime, uniform: Uniform) -> Operation:
    due = next_attempt_at(problem, attempt=_rung(operation, now=now), now=now, uniform=uniform)
    waiting = operation.wait_until(due, problem, now=now)
    tx.operations.update(waiting)
    tx.enqueue(job_of(waiting, priority=PRIORITY_RETRY, not_before_seconds=(due - now).total_seconds()))
    return waiting


def _rung(operation: Operation, *, now: datetime) -> int:
    """Return the place on the ladder by the time since the beginning: attempts also begin when a new version comes."""
    return 1 + sum(now - operation.created_at >= end for end in accumulate(LADDER))


def _ended(operation: Operation, state: OperationState, *, now: datetime) -> Operation:
    return replace(operation, state=state, updated_at=now, finished_at=now, next_attempt_at=None)


def _lock(tx: UnitOfWork, operation_id: OperationID, attempt: int) -> Operation | None:
    operation = tx.operations.lock(operation_id)
    if operation is None or operation.state.is_final or operation.attempt != attempt:
        return None
    return operation

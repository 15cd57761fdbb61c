"""An entry's next version: started, put off, given to another issuer, given up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certorbit.deploying import starting
from certorbit.errors import BadIdentifier, BadInput, InUse, LostRace, NotFound
from certorbit.model.audit import Action, AuditEvent, ObjectChange
from certorbit.model.change_states import change_of_entry
from certorbit.model.entry import ConfigID, Entry, EntryID, EntryUID, Source
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.next_version import NextVersion
from certorbit.model.operation import Lane, Operation, OperationID, OperationKind, OperationState
from certorbit.model.schedule import Schedule
from certorbit.ports.issuer import Issuer
from certorbit.ports.store import UnitOfWork, job_of
from certorbit.services.certificates import check_not_built_in, get_entry
from certorbit.services.configurations import lock_configuration
from certorbit.services.links import let_go
from certorbit.services.operations import cancel, start
from certorbit.services.permitting import ConfigIssuers, check_permitted, find_next_version

PRIORITY_RENEWAL = 50  # engine.md: after what somebody waits for


@dataclass(frozen=True, slots=True)
class RenewalStatus:
    """How an entry's renewal stands.

    following: what gives it its next version by itself, or why nothing does.
    unfinished: the operation that is to give it its next version; None: none.
    is_revoked: its current version is known to be.
    """

    entry: Entry
    schedule: Schedule
    following: NextVersion
    unfinished: Operation | None
    is_revoked: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The operation as it stands now. entry_is_gone: it was the first issuance, and its entry went with it."""

    operation: Operation
    entry_is_gone: bool


def start_operation(
    tx: UnitOfWork,
    entry: Entry,
    kind: OperationKind,
    *,
    issuer: str,
    now: datetime,
    new_id: Callable[[], str],
) -> Operation:
    """Record an operation that gives the entry its next version, and its workflow, in this transaction.

    It is promised from the start: the entry exists, so every failed attempt is repeated until there is a certificate.

    Raises:
        BadIdentifier: no CA can issue for the names of an uploaded certificate.
        LostRace: another one was started meanwhile; the repeated transaction finds it.
    """
    # An uploaded certificate's names stand there as its CA wrote them.
    names = tuple(identifier.value for identifier in normalise_identifiers(entry.identifiers))
    return start(
        tx,
        replace(entry, identifiers=names),
        kind,
        priority=PRIORITY_RENEWAL,
        issuer=issuer,
        now=now,
        new_id=new_id,
    )


def renew_now(
    tx: UnitOfWork,
    config: ConfigID,
    entry_id: EntryID,
    *,
    issuer: str,
    issuers: ConfigIssuers,
    now: datetime,
    new_id: Callable[[], str],
) -> Operation:
    """Start a renewal (of an uploaded certificate: its replacement) whatever the schedule says, paused or not.

    If an operation is under way and waits for its next attempt, that attempt starts now.

    Args:
        issuer: for this attempt; "": the one whose turn it is, which is the built-in CA only where it may issue
            (docs/decisions/0013), or for an upload, if there is no other one (0007).

    Raises:
        NotFound: no such entry. BuiltIn: the placeholder. InUse: an attempt is running at this moment.
        BadInput: a CA bundle; an issuer that doesn't exist, or that can't issue for these names; nobody may issue.
    """
    entry = get_entry(tx, config, entry_id)
    check_renewable(entry)
    check_issuer(issuer, issuers.in_order)
    unfinished = tx.operations.lock_unfinished(entry.uid)
    schedule, order = find_schedule(tx, entry.uid), issuers.order
    is_upload = entry.current is not None and entry.current.source is Source.UPLOADED
    if issuer:
        names: tuple[str, ...] = (issuer,)
    elif is_upload and unfinished is None and order.built_in.issuperset(order.names):
        names = order.names  # there is no other CA, and it is the operator's word
    else:
        names = check_permitted(entry, unfinished, schedule, order)
    _check_covered(entry, issuers.get(names[0]))
    if unfinished is not None:
        started = start_next_attempt(tx, unfinished, issuer=issuer, now=now)
        record_started(tx, Action.RENEWAL_STARTED, started, now=now)
        return started
    if entry.current is None:
        # Its first issuance came to its end between our two looks: look again.
        raise LostRace(f"the entry {entry.id!r} was issued, or went away")
    tx.failures.forget(entry.identifiers)
    kind = OperationKind.REPLACE if is_upload else OperationKind.RENEW
    # Whom a replacement is asked of is written down at once: the settings may be others when it begins.
    asked = issuer or (names[0] if is_upload else schedule.issuer)
    started = start_operation(tx, entry, kind, issuer=asked, now=now, new_id=new_id)
    record_started(tx, Action.RENEWAL_STARTED, started, now=now)
    return started


def record_started(
    tx: UnitOfWork, action: Action, operation: Operation, *, now: datetime, why: Mapping[str, Any] | None = None
) -> None:
    """Write the record of an operation, or an attempt of it, that was started. why: what else is to be known."""
    details = {"kind": operation.kind.value, "attempt": operation.attempts_begun, "issuer": operation.issuer_name}
    tx.audit.add(
        AuditEvent(
            action=action,
            config=operation.config,
            objects=(operation.entry_id,),
            operation=operation.id,
            details={**details, **(why or {})},
        ),
        now=now,
    )


def retry_operation(tx: UnitOfWork, operation_id: OperationID, *, issuers: ConfigIssuers, now: datetime) -> Operation:
    """Start a waiting operation's next attempt now.

    issuers: of the operation's configuration.

    Raises:
        NotFound: no such operation. InUse: it runs at this moment. BadInput: it is over; nobody may issue.
    """
    operation = _lock_operation(tx, operation_id)
    if operation.state.is_final:
        raise BadInput(f"The operation is over ({operation.state}); there is nothing to retry.", subject="operation_id")
    _check_waits(operation)
    if operation.kind is OperationKind.DEPLOY:  # it has no order, and says nothing of names that fail at CAs
        started = starting.start_next_attempt(tx, operation, priority=starting.PRIORITY_INTERACTIVE, now=now)
    else:
        entry = tx.entries.get_by_uid(operation.entry_uid)
        schedule = find_schedule(tx, operation.entry_uid)
        check_permitted(entry, operation, schedule, issuers.order)
        started = start_next_attempt(tx, operation, issuer="", now=now)
    record_started(tx, Action.OPERATION_RETRIED, started, now=now)
    return started


def cancel_operation(tx: UnitOfWork, operation_id: OperationID, *, by: str, now: datetime) -> Cancelled:
    """Give an unfinished operation up. Repeating it is harmless.

    A first issuance takes its entry with it, as deleting the entry does: an entry without a certificate for which
    nothing is under way would stay empty for ever. Any other entry keeps the certificate that it has; the sweep may
    start anew when it looks again (within six hours), unless the renewal is paused.

    by: name of the caller's key, for the change history.

    Raises:
        NotFound: no such operation. BadInput: it ended with a certificate, or failed for good.
        InUse: its entry would go and is in use (`certificates.delete`).
    """
    operation = _lock_operation(tx, operation_id)
    if operation.state.is_final and operation.state is not OperationState.CANCELLED:
        raise BadInput(
            f"The operation is over ({operation.state}); there is nothing to cancel.", subject="operation_id"
        )
    if not operation.state.is_final:
        operation = cancel(tx, operation, now=now)
        entry = tx.entries.get_by_uid(operation.entry_uid)
        if operation.kind is OperationKind.ISSUE and entry is not None and entry.current is None:
            lock_configuration(tx, entry.config)
            changes = let_go(tx, entry)
            tx.entries.delete(entry.uid)
            tx.configurations.record(
                entry.config, [*changes, change_of_entry(entry, None)], by=by, now=now, operation=operation.id
            )
        else:
            record_started(tx, Action.OPERATION_CANCELLED, operation, now=now)
    return Cancelled(operation, entry_is_gone=tx.entries.get_by_uid(operation.entry_uid) is None)


def change_schedule(
    tx: UnitOfWork,
    config: ConfigID,
    entry_id: EntryID,
    *,
    paused: bool | None,
    issuer: str | None,
    issuers: ConfigIssuers,
    now: datetime,
) -> None:
    """Pause or resume the automatic renewal, or choose the issuer of this entry ("": the first one again).

    None leaves a thing as it is. An operation that waits for its next attempt starts it now with another issuer; an
    attempt that runs goes on.

    Raises:
        NotFound: no such entry. BuiltIn: the placeholder.
        BadInput: a CA bundle; an issuer that doesn't exist, or that can't issue for these names.
    """
    entry = get_entry(tx, config, entry_id)
    check_renewable(entry)
    check_issuer(issuer or "", issuers.in_order)
    unfinished = tx.operations.lock_unfinished(entry.uid)
    schedule = find_schedule(tx, entry.uid)
    if issuer is not None and issuer != schedule.issuer:
        chosen = replace(schedule, issuer=issuer)
        name = issuer or check_permitted(entry, unfinished, chosen, issuers.order)[0]
        _check_covered(entry, issuers.get(name))
        if unfinished is not None and unfinished.state is OperationState.WAITING:
            start_next_attempt(tx, unfinished, issuer=name, now=now)
    changed = replace(
        schedule,
        look_at=now,
        paused=schedule.paused if paused is None else paused,
        issuer=schedule.issuer if issuer is None else issuer,
    )
    tx.schedules.put(changed)
    record_schedule(tx, entry, schedule, changed, now=now)


def record_schedule(tx: UnitOfWork, entry: Entry, before: Schedule, after: Schedule, *, now: datetime) -> None:
    """Write the record of what an operator changed of a renewal; none if that is nothing."""
    old, new = ({"paused": one.paused, "issuer": one.issuer} for one in (before, after))
    if old != new:
        change = ObjectChange("renewal", entry.id, old, new)
        event = AuditEvent(action=Action.RENEWAL_CHANGED, config=entry.config, objects=(entry.id,), changes=(change,))
        tx.audit.add(event, now=now)


def get_status(
    tx: UnitOfWork,
    config: ConfigID,
    entry_id: EntryID,
    *,
    issuers: ConfigIssuers,
    now: datetime,
) -> RenewalStatus:
    """Return how an entry's renewal stands. Raises NotFound."""
    entry = get_entry(tx, config, entry_id)
    # An unfinished operation is among the newest: nothing is started beside it.
    newest = tx.operations.list(config=config, entry=entry_id, lane=Lane.ISSUANCE, limit=5)
    unfinished = (op for op in newest if op.entry_uid == entry.uid and not op.state.is_final)
    schedule = find_schedule(tx, entry.uid)
    verdict = tx.revocations.find_verdict(entry.current.id) if entry.current is not None else None
    return RenewalStatus(
        entry,
        schedule,
        find_next_version(entry, schedule, issuers),
        next(unfinished, None),
        is_revoked=verdict is not None and verdict.at(now).is_revoked,
    )


def start_next_attempt(tx: UnitOfWork, operation: Operation, *, issuer: str, now: datetime) -> Operation:
    """Take the waiting attempt's place with one that starts now; the delayed workflow then finds it gone by.

    A change by the operator starts afresh at once: names that failed before are tried again.

    Args:
        operation: locked by the caller. issuer: for this attempt; "": as planned.

    Raises:
        InUse: an attempt is under way.
    """
    _check_waits(operation)
    kept = tx.orders.find(operation.id, operation.attempt)
    if kept is not None and issuer in {"", kept.issuer_name}:
        tx.orders.carry_over(kept.id, attempt=operation.attempt + 1)
    elif kept is not None:
        tx.orders.drop_key(kept.id)
    tx.failures.forget(operation.identifiers)
    started = replace(operation.begin_next(now=now), issuer_name=issuer or operation.issuer_name)
    tx.operations.update(started)
    tx.enqueue(job_of(started, priority=PRIORITY_RENEWAL))
    return started


def _check_waits(operation: Operation) -> None:
    if operation.state is not OperationState.WAITING:
        raise InUse(
            f"An attempt is under way for {operation.entry_id!r} (operation {operation.id}); wait for its end.",
            subject="operation_id",
        )


def check_renewable(entry: Entry) -> None:
    """Raise BuiltIn for the placeholder, BadInput for a bundle of CA certificates: nobody issues those."""
    check_not_built_in(entry.id)
    if entry.side.is_ca_bundle:
        raise BadInput(
            f"The certificate {entry.id!r} is a bundle of CA certificates; those are uploaded, never renewed.",
            subject="entry_id",
        )


def check_issuer(name: str, issuers: Sequence[Issuer]) -> None:
    """Raise BadInput unless there is an issuer of that name; "" is none in particular."""
    names = [issuer.name for issuer in issuers]
    if name and name not in names:
        raise BadInput(f"issuer: there is none named {name[:80]!r}; there are {', '.join(names)}.", subject="issuer")


def _check_covered(entry: Entry, issuer: Issuer) -> None:
    bare = [
        identifier.value for identifier in normalise_identifiers(entry.identifiers) if not issuer.covers(identifier)
    ]
    if bare:
        raise BadIdentifier(
            f"The issuer {issuer.name!r} has no solver for {', '.join(bare[:3])}; add a [[solvers]] table for it"
            " (docs/dns-01.md), or name another issuer.",
            subject="issuer",
        )


def find_schedule(tx: UnitOfWork, entry: EntryUID) -> Schedule:
    """Return the entry's schedule, a blank one if it has none."""
    return tx.schedules.find(entry) or Schedule(entry_uid=entry, look_at=None)


def _lock_operation(tx: UnitOfWork, operation_id: OperationID) -> Operation:
    operation = tx.operations.lock(operation_id)
    if operation is None:
        raise NotFound(f"There is no operation {operation_id[:80]!r}.", subject="operation_id")
    return operation

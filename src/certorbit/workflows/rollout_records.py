"""What a unit's change writes down, one transaction each. Every function may run again with the same arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from certorbit.deploying.locking import lock_attachments
from certorbit.model.balancer import HeldCopy
from certorbit.model.deployment import Attachment, AttachmentID, Snapshot, Stage, Wanted
from certorbit.model.entry import Entry, EntryUID, Version, VersionID
from certorbit.model.operation import OperationID, Problem, problem_from
from certorbit.ports.store import UnitOfWork
from certorbit.workflows.client_checks import Policies
from certorbit.workflows.unit import Result, Unit


@dataclass(frozen=True, slots=True)
class Others:
    """What else is on a listener. displaced: the copy whose place is taken, or "". kept: copies that stay wanted."""

    displaced: str
    kept: frozenset[str]


@dataclass(frozen=True, slots=True)
class Return:
    """How a unit goes back.

    old: the version that the copy held before; None: there was none, or it was this one.
    before: what each listener held, by attachment. own: all handles of the entry at the target.
    """

    old: Version | None
    before: Mapping[str, Snapshot]
    own: frozenset[str]


def begin_unit(
    tx: UnitOfWork,
    operation: OperationID,
    entry: Entry,
    unit: Unit,
    looks: Mapping[str, Snapshot],
    *,
    policies: Policies,
    now: datetime,
) -> HeldCopy | None:
    """Write down what the unit's listeners hold before anything is changed; return the entry's copy in the scope.

    Also what they are told to check clients by, so that it is known whatever becomes of the change.
    A repeat keeps what the first run saw: afterwards the listeners may show our own half-done change.
    """
    present = find_copy(tx, entry.uid, unit)
    for row in tx.rollouts.list_some(operation, [AttachmentID(one) for one in looks]):
        if row.stage in {Stage.CHANGING, Stage.UNSETTLED}:
            continue
        tx.rollouts.put(
            replace(
                row,
                stage=Stage.CHANGING,
                before=looks[row.attachment],
                from_version=present.version if present else None,
                updated_at=now,
            )
        )
    held = lock_attachments(tx, [attachment.listener for attachment in unit.attachments])
    for attachment in unit.attachments:
        if attachment.id in held:
            policy = policies[attachment.id]
            mark = policy.mark if policy is not None else None
            tx.attachments.update(
                replace(held[attachment.id], stage=Stage.CHANGING, client_policy=mark, updated_at=now)
            )
    return present


def note_problem(tx: UnitOfWork, operation: OperationID, unit: Unit, problem: Problem, *, now: datetime) -> None:
    """Write down why the unit's listeners go back, as that begins. They are still being changed."""
    for row in tx.rollouts.list_some(operation, [attachment.id for attachment in unit.attachments]):
        tx.rollouts.put(replace(row, problem=problem, updated_at=now))
    held = lock_attachments(tx, [attachment.listener for attachment in unit.attachments])
    for attachment in unit.attachments:
        if attachment.id in held:
            tx.attachments.update(replace(held[attachment.id], problem=problem, updated_at=now))


def find_copy(tx: UnitOfWork, entry: EntryUID, unit: Unit) -> HeldCopy | None:
    """Return the entry's copy in the unit's scope: the one that the listeners hold, else the newest."""
    held = {attachment.handle for attachment in unit.attachments}
    name = unit.placed.target.name
    copies = [copy for copy in tx.copies.list_in_scope(name, unit.scope, entry) if copy.handle in held]
    return copies[0] if copies else tx.copies.find(name, unit.scope, entry)


def own_handles(tx: UnitOfWork, entry: EntryUID, unit: Unit) -> frozenset[str]:
    """Return the handles of the entry's copies at the unit's target, doomed ones too."""
    return tx.copies.list_handles(unit.placed.target.name, entry)


def other_handles(tx: UnitOfWork, attachment: Attachment) -> Others:
    """Return what other entries of ours have on the listener."""
    displaced, kept = "", set()
    for other in tx.attachments.list_of_listener(attachment.listener):
        if other.id == attachment.id or not other.handle:
            continue
        if other.entry_uid == attachment.replaces:
            displaced = other.handle
        elif other.wanted is Wanted.ATTACHED:
            kept.add(other.handle)
    return Others(displaced, frozenset(kept))


def plan_return(tx: UnitOfWork, operation: OperationID, entry: Entry, unit: Unit) -> Return:
    """Return what is needed to let the unit's listeners serve what they served before."""
    rows = tx.rollouts.list_some(operation, [attachment.id for attachment in unit.attachments])
    before: dict[str, Snapshot] = {row.attachment: row.before for row in rows if row.before is not None}
    wanted: VersionID | None = next((row.from_version for row in rows if row.from_version != row.to_version), None)
    versions = tx.entries.list_versions(entry.uid) if wanted else ()
    return Return(
        old=next((version for version in versions if version.id == wanted), None),
        before=before,
        own=own_handles(tx, entry.uid, unit),
    )


def record_results(
    tx: UnitOfWork, operation: OperationID, version: Version, results: Mapping[str, Result], *, now: datetime
) -> None:
    """Write down what became of each listener of a unit.

    A wish that changed while it was being fulfilled (it shall be the default now) is not yet fulfilled.
    """
    rows = tx.rollouts.list_some(operation, [AttachmentID(one) for one in results])
    held = lock_attachments(tx, [row.listener for row in rows])
    for row in rows:
        result = results[row.attachment]
        problem = problem_from(result.error) if result.error else None
        tx.rollouts.put(replace(row, stage=result.stage, proof=result.proof, problem=problem, updated_at=now))
        if result.listener is not None:
            tx.listeners.put(result.listener, now=now)
        attachment = held.get(row.attachment)
        if attachment is None:
            continue
        is_proven = result.stage is Stage.PROVEN
        is_as_wished = attachment.is_default == row.is_default
        tx.attachments.update(
            replace(
                attachment,
                stage=Stage.PENDING if is_proven and not is_as_wished else result.stage,
                version=version.id if is_proven else attachment.version,
                handle=result.handle or attachment.handle,
                proof=result.proof or attachment.proof,
                problem=problem,
                updated_at=now,
            )
        )

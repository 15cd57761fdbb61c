"""Starts the deployment of an entry: in the transaction that made it necessary."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from certorbit.deploying.locking import lock_attachments_of
from certorbit.model.change import Change
from certorbit.model.change_states import change_of_attachment
from certorbit.model.deployment import Attachment, AttachmentID, Stage, Wanted
from certorbit.model.entry import Entry
from certorbit.model.operation import Lane, Operation, OperationID, OperationKind, OperationState, new_operation
from certorbit.ports.store import UnitOfWork, job_of

PRIORITY_INTERACTIVE = 10  # somebody waits for the answer
PRIORITY_ROLLOUT = 40  # a new version; before what has failed once


def ensure_deployment(
    tx: UnitOfWork, entry: Entry, *, priority: int, now: datetime, new_id: Callable[[], str]
) -> Operation | None:
    """Let a workflow bring the entry's listeners to what is wanted; there is at most one at a time.

    One that waits after a failure starts anew at once: something has changed. One that runs looks again when it ends.

    Returns: the operation; None if there is nothing to do: the entry is attached nowhere, or has no certificate yet
        (its issuance starts the deployment).
    """
    rows = tx.attachments.list_of_entry(entry.uid)
    if not rows:
        return None
    unfinished = tx.operations.lock_unfinished(entry.uid, Lane.DEPLOYMENT)
    if unfinished is None:
        if entry.current is None:
            for row in rows:
                if row.wanted is Wanted.DETACHED:
                    tx.attachments.delete(row.id)  # it was never put there: there is nothing to take off
            return None
        operation = new_operation(entry, OperationKind.DEPLOY, id=OperationID(new_id()), now=now)
        tx.operations.add(operation)
        tx.enqueue(job_of(operation, priority=priority))
        return operation
    if unfinished.state is OperationState.WAITING:
        return start_next_attempt(tx, unfinished, priority=priority, now=now)
    return unfinished


def start_next_attempt(tx: UnitOfWork, operation: Operation, *, priority: int, now: datetime) -> Operation:
    """Take the attempt's place with one that starts now.

    operation: locked by the caller; it waits, or its attempt is just ending.
    """
    started = operation.begin_next(now=now)
    tx.operations.update(started)
    tx.enqueue(job_of(started, priority=priority))
    return started


def take_over(tx: UnitOfWork, old: Entry, new: Entry, *, now: datetime, new_id: Callable[[], str]) -> list[Change]:
    """Let every listener that serves the old entry serve the new one instead (`replace_cert_id`).

    The old one stays on until the new one is proven there (contract.md: "X stays, unused").

    Returns: what changed, for the configuration's history.
    """
    held = lock_attachments_of(tx, old.uid, new.uid)
    own = {attachment.listener: attachment for attachment in held if attachment.entry_uid == new.uid}
    changes: list[Change] = []
    for attachment in held:
        if attachment.entry_uid != old.uid or attachment.wanted is Wanted.DETACHED:
            continue
        if attachment.is_default:
            tx.attachments.update(replace(attachment, is_default=False, updated_at=now))
        present = own.get(attachment.listener)
        wish = _successor(attachment, present, new, now=now, new_id=new_id)
        if present is None:
            tx.attachments.add(wish)
        else:
            tx.attachments.update(wish)
        is_wanted = present is not None and present.wanted is Wanted.ATTACHED
        changes += [change_of_attachment(attachment, None), change_of_attachment(present if is_wanted else None, wish)]
    ensure_deployment(tx, new, priority=PRIORITY_INTERACTIVE, now=now, new_id=new_id)
    return changes


def _successor(
    old: Attachment, present: Attachment | None, new: Entry, *, now: datetime, new_id: Callable[[], str]
) -> Attachment:
    """Return the wish that the new entry takes the old one's place on its listener. present: its own one there."""
    wish = present or replace(
        old,
        id=AttachmentID(new_id()),
        entry_id=new.id,
        entry_uid=new.uid,
        created_at=now,
        version=None,
        handle="",
        proof=None,
    )
    return replace(
        wish,
        is_default=wish.is_default or old.is_default,
        wanted=Wanted.ATTACHED,
        promised=True,
        replaces=old.entry_uid,
        # Where no server group says anything, what the old one's clients were checked by goes on.
        client_policy=wish.client_policy or old.client_policy,
        stage=Stage.PENDING,
        problem=None,
        updated_at=now,
    )

"""Reads attachments that are about to be changed: who changes one holds its listener."""

from collections.abc import Iterable

from certorbit.model.balancer import ListenerKey
from certorbit.model.deployment import Attachment, AttachmentID
from certorbit.model.entry import EntryUID
from certorbit.ports.store import UnitOfWork


def lock_attachments(tx: UnitOfWork, listeners: Iterable[ListenerKey]) -> dict[AttachmentID, Attachment]:
    """Return all attachments of the listeners, and hold the listeners until the transaction ends.

    In the order of their keys, so that two that lock several don't wait for each other.
    """
    return {row.id: row for key in sorted(set(listeners)) for row in tx.attachments.lock_listener(key)}


def lock_attachments_of(tx: UnitOfWork, *entries: EntryUID) -> list[Attachment]:
    """Return the entries' attachments, by listener key, held as by `lock_attachments`."""
    listeners = [row.listener for entry in entries for row in tx.attachments.list_of_entry(entry)]
    rows = lock_attachments(tx, listeners).values()
    return sorted((row for row in rows if row.entry_uid in entries), key=lambda row: (row.listener, row.entry_id))

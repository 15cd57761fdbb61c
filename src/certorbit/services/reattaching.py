"""Brings attachments back to those of an earlier version of a configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from certorbit.deploying.starting import PRIORITY_INTERACTIVE, ensure_deployment
from certorbit.errors import NotFound
from certorbit.model.balancer import ListenerKey
from certorbit.model.change import Change, ChangeKind
from certorbit.model.change_states import attachment_state
from certorbit.model.deployment import Attachment, AttachmentID, Wanted
from certorbit.model.entry import PLACEHOLDER, ConfigID, Entry, EntryID
from certorbit.ports.store import UnitOfWork


def reattach(
    tx: UnitOfWork,
    config: ConfigID,
    wanted: Mapping[str, Mapping[str, Any] | None],
    *,
    now: datetime,
    new_id: Callable[[], str],
) -> Sequence[Change]:
    """Bring attachments back to an earlier configuration's (`wanted`: by change id, None: not attached).

    A certificate that is gone, or a listener that is gone, is left out: what is attached to it went with it.

    Returns: what changed, for the configuration's history.
    """
    changes: list[Change] = []
    for change_id, state in wanted.items():
        listener_text, _, entry_id = change_id.rpartition(" ")
        entry = tx.entries.find(config, EntryID(entry_id))
        if entry is None or entry_id == PLACEHOLDER:
            continue
        row = next((r for r in tx.attachments.list_of_entry(entry.uid) if str(r.listener) == listener_text), None)
        change = _bring_back(tx, entry, row, state, change_id, now=now, new_id=new_id)
        if change is not None:
            changes.append(change)
            ensure_deployment(tx, entry, priority=PRIORITY_INTERACTIVE, now=now, new_id=new_id)
    return changes


def _bring_back(
    tx: UnitOfWork,
    entry: Entry,
    row: Attachment | None,
    state: Mapping[str, Any] | None,
    change_id: str,
    *,
    now: datetime,
    new_id: Callable[[], str],
) -> Change | None:
    present = attachment_state(row) if row is not None and row.wanted is Wanted.ATTACHED else None
    if present == state:
        return None
    if state is None:
        if row is None or row.is_default:
            return None  # a listener isn't left without its default
        tx.attachments.update(replace(row, wanted=Wanted.DETACHED, promised=True, updated_at=now))
        return Change(ChangeKind.ATTACHMENT, change_id, present, None)
    key = ListenerKey(state["target"], state["region"], state["load_balancer"], state["listener"], state["port"])
    listener = tx.listeners.find(key)
    if listener is None:
        raise NotFound(f"The listener {key} is gone; the configuration can't be brought back.", subject="version")
    rows = tx.attachments.lock_listener(key)
    if state["is_default"]:
        for other in rows:
            if other.is_default and other.entry_uid != entry.uid:
                tx.attachments.update(replace(other, is_default=False, updated_at=now))
    wish = Attachment(
        id=row.id if row else AttachmentID(new_id()),
        listener=key,
        provider=listener.provider,
        kind=listener.kind,
        config=entry.config,
        entry_id=entry.id,
        entry_uid=entry.uid,
        is_default=state["is_default"],
        wanted=Wanted.ATTACHED,
        promised=True,
        created_at=row.created_at if row else now,
        updated_at=now,
        version=row.version if row else None,
        handle=row.handle if row else "",
    )
    if row is None:
        tx.attachments.add(wish)
    else:
        tx.attachments.update(wish)
    return Change(ChangeKind.ATTACHMENT, change_id, present, attachment_state(wish))

"""Brings attachments back to those of an earlier version of a configuration."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certorbit.deploying.starting import PRIORITY_INTERACTIVE, ensure_deployment
from certorbit.errors import NotFound
from certorbit.model.balancer import ListenerKey
from certorbit.model.change import Change, ChangeKind
from certorbit.model.change_states import attachment_state
from certorbit.model.client_policy import mark_from_json
from certorbit.model.deployment import Attachment, Wanted
from certorbit.model.entry import PLACEHOLDER, ConfigID, Entry, EntryID
from certorbit.ports.store import UnitOfWork
from certorbit.services.balancers import displace, find_default, make_wish, put_wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Who brings attachments back, and what he may touch.

    by: name of the caller's key. targets: names of those that the configuration's certificates may go to.
    reaches: see `balancers.Attach`.
    """

    by: str
    targets: Collection[str]
    reaches: Callable[[ConfigID], bool]


def reattach(
    tx: UnitOfWork,
    config: ConfigID,
    wanted: Mapping[str, Mapping[str, Any] | None],
    *,
    bounds: Bounds,
    now: datetime,
    new_id: Callable[[], str],
) -> Sequence[Change]:
    """Bring attachments back to an earlier configuration's (`wanted`: by change id, None: not attached).

    A certificate that is gone is left out: what is attached to it went with it.

    Returns: what changed, for the configuration's history.

    Raises:
        NotFound: a listener is gone, or of a target that isn't open to the configuration (any more).
        InUse: a default that would be displaced is of a configuration that the caller may not change.
    """
    changes: list[Change] = []
    # Defaults first: a listener isn't left without one.
    for change_id, state in sorted(wanted.items(), key=lambda item: not (item[1] or {}).get("is_default")):
        listener_text, _, entry_id = change_id.rpartition(" ")
        entry = tx.entries.find(config, EntryID(entry_id))
        if entry is None or entry_id == PLACEHOLDER:
            continue
        row = next((r for r in tx.attachments.list_of_entry(entry.uid) if str(r.listener) == listener_text), None)
        brought = _bring_back(tx, entry, row, state, change_id, bounds=bounds, now=now, new_id=new_id)
        if brought:
            changes += brought
            ensure_deployment(tx, entry, priority=PRIORITY_INTERACTIVE, now=now, new_id=new_id)
    return changes


def _bring_back(  # noqa: PLR0913 - both sides of the change, and who may make it
    tx: UnitOfWork,
    entry: Entry,
    row: Attachment | None,
    state: Mapping[str, Any] | None,
    change_id: str,
    *,
    bounds: Bounds,
    now: datetime,
    new_id: Callable[[], str],
) -> list[Change]:
    present = attachment_state(row) if row is not None and row.wanted is Wanted.ATTACHED else None
    if _place_of(present) == _place_of(state):
        return []
    if state is None:
        if row is None or row.is_default:
            return []  # a listener isn't left without its default
        tx.attachments.update(replace(row, wanted=Wanted.DETACHED, promised=True, updated_at=now))
        return [Change(ChangeKind.ATTACHMENT, change_id, present, None)]
    key = ListenerKey(state["target"], state["region"], state["load_balancer"], state["listener"], state["port"])
    listener = tx.listeners.find(key) if key.target in bounds.targets else None
    if listener is None:
        raise NotFound(f"The listener {key} is gone; the configuration can't be brought back.", subject="version")
    former = find_default(tx.attachments.lock_listener(key), besides=entry) if state["is_default"] else None
    changes = displace(tx, former, entry.config, reaches=bounds.reaches, by=bounds.by, now=now) if former else []
    wish = make_wish(listener, entry, row, is_default=state["is_default"], promised=True, now=now, new_id=new_id)
    if row is None:  # a check that was in force there is lifted by a server group alone
        wish = replace(wish, client_policy=mark_from_json(state.get("client_policy")))
    put_wish(tx, wish, is_new=row is None)
    return [*changes, Change(ChangeKind.ATTACHMENT, change_id, present, attachment_state(wish))]


def _place_of(state: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the state without what its clients are checked by: that changes by server groups, not by attaching."""
    return {name: value for name, value in state.items() if name != "client_policy"} if state is not None else None

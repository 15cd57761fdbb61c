"""Listeners: listed as clients see them, and found by what a request says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certorbit.errors import BadInput
from certorbit.model.balancer import HeldCopy, Listener, ListenerKey, shown_link
from certorbit.model.deployment import Attachment, Wanted
from certorbit.model.entry import ConfigID
from certorbit.ports.store import UnitOfWork
from certorbit.services.certificates import check_configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerQuery:
    """How a request names a listener (contract.md). listener "" and port None: not said.

    is_classic: the request's `elbv2` was false.
    """

    provider: str
    region: str
    load_balancer: str
    listener: str
    port: int | None
    is_classic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownListener:
    """A listener as the API shows it: certificates are links of copies, those that are asked for among them."""

    listener: Listener
    default: str
    certificates: tuple[str, ...]


def list_listeners(tx: UnitOfWork, config: ConfigID, targets: Sequence[str]) -> Sequence[ShownListener]:
    """Return all listeners of the targets as the configuration's clients see them, by key. Raises NotFound."""
    check_configuration(tx, config)
    listeners = tx.listeners.list()
    copies = {(copy.target, copy.handle): copy for copy in tx.copies.list()}
    rows: dict[ListenerKey, list[Attachment]] = {}
    for attachment in tx.attachments.list():
        rows.setdefault(attachment.listener, []).append(attachment)
    return [
        _show(listener, rows.get(listener.key, ()), copies, config=config)
        for listener in listeners
        if listener.key.target in targets
    ]


def find_listener(tx: UnitOfWork, query: ListenerQuery, targets: Sequence[str]) -> Listener | None:
    """Return the listener that the request names; None if there is none in the inventory.

    Raises:
        BadInput: several fit; the message names them.
    """
    found = [listener for listener in tx.listeners.list() if listener.key.target in targets and _fits(listener, query)]
    exact = [one for one in found if (one.kind == "classic") == query.is_classic]
    found = exact or found
    if len(found) > 1:
        names = ", ".join(f"listener={one.key.listener}&listener-port={one.key.port}" for one in found[:4])
        raise BadInput(
            f"listener: {query.load_balancer!r} has several listeners that fit; say which: {names}.",
            subject="listener",
        )
    return found[0] if found else None


def _fits(listener: Listener, query: ListenerQuery) -> bool:
    key = listener.key
    return (
        listener.provider == query.provider
        and key.region == query.region
        and key.load_balancer == query.load_balancer
        and query.listener in {"", key.listener}
        and query.port in {None, key.port}
    )


def _show(
    listener: Listener,
    rows: Sequence[Attachment],
    copies: Mapping[tuple[str, str], HeldCopy],
    *,
    config: ConfigID,
) -> ShownListener:
    """Return the listener with what is wanted on it, whether it is there already or on its way."""

    def link_of(handle: str) -> str:
        copy = copies.get((listener.key.target, handle))
        if copy is None:
            return handle  # somebody else's
        link = shown_link(copy.link, copy.entry_id)
        # The same id in another configuration is another certificate; a client must not take it for its own.
        return link if copy.config == config else f"{link}#{copy.config}"

    going = {row.handle for row in rows if row.wanted is Wanted.DETACHED}
    shown = {handle: link_of(handle) for handle in listener.handles if handle not in going}
    default = shown.get(listener.default, "")
    for row in rows:
        if row.wanted is not Wanted.ATTACHED:
            continue
        link = shown.get(row.handle) if row.handle else None
        if link is None:
            link = f"pending/{row.entry_id}" + ("" if row.config == config else f"#{row.config}")
            shown[link] = link
        if row.is_default:
            default = link
    return ShownListener(listener=listener, default=default, certificates=tuple(shown.values()))

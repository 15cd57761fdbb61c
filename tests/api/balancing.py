"""What workflows and targets would have written: listeners, attachments and copies, put into the API's store."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from api.server import API
from certorbit.model.balancer import Endpoint, HeldCopy, Listener, ListenerKey
from certorbit.model.deployment import Attachment, AttachmentID, Stage, Wanted
from certorbit.model.entry import ConfigID, Entry, EntryID, VersionID
from certorbit.ports.store import UnitOfWork

T = TypeVar("T")
PROD = ConfigID("prod")
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def write(api: API, work: Callable[[UnitOfWork], T]) -> T:
    return asyncio.run(api.parts.store.write(work))


def read(api: API, work: Callable[[UnitOfWork], T]) -> T:
    return asyncio.run(api.parts.store.read(work))


def find_entry(api: API, name: str) -> Entry:
    entry = read(api, lambda tx: tx.entries.find(PROD, EntryID(name)))
    assert entry is not None
    return entry


def make_key(*, target: str = "edge", load_balancer: str = "edge-lb", listener: str = "https") -> ListenerKey:
    return ListenerKey(target=target, region="", load_balancer=load_balancer, listener=listener, port=443)


def add_listener(
    api: API, *, target: str, load_balancer: str, listener: str = "https", provider: str = "link11"
) -> None:
    key = make_key(target=target, load_balancer=load_balancer, listener=listener)
    seen = Listener(
        key=key,
        provider=provider,
        kind="haproxy",
        dns_name="",
        max_certificates=1000,
        default="",
        certificates=(),
        endpoints=(Endpoint("127.0.0.1", 443),),
    )
    write(api, lambda tx: tx.listeners.put(seen, now=AT))


def attach(api: API, name: str, *, wanted: Wanted = Wanted.ATTACHED, stage: Stage = Stage.PROVEN) -> Attachment:
    """Store an attachment of the entry to a listener of its own."""
    entry = find_entry(api, name)
    attachment = Attachment(
        id=AttachmentID(f"attachment-of-{name}"),
        listener=make_key(load_balancer=f"lb-of-{name}"),
        provider="link11",
        kind="haproxy",
        config=PROD,
        entry_id=entry.id,
        entry_uid=entry.uid,
        is_default=False,
        wanted=wanted,
        promised=True,
        created_at=AT,
        updated_at=AT,
        stage=stage,
    )
    write(api, lambda tx: tx.attachments.add(attachment))
    return attachment


def add_copy(api: API, name: str, *, link: str, is_doomed: bool = False) -> None:
    entry = find_entry(api, name)
    version = entry.current.id if entry.current else VersionID("none")
    copy = HeldCopy(
        target="aws",
        scope="eu-central-1",
        handle=f"{link}#{name}",
        link=link,
        provider="aws",
        region="eu-central-1",
        config=PROD,
        entry_id=entry.id,
        entry_uid=entry.uid,
        version=version,
        updated_at=AT,
        is_doomed=is_doomed,
    )
    write(api, lambda tx: tx.copies.put(copy))

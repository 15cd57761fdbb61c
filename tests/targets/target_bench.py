"""What the contract suite needs of a target: the target, and a look at the real thing that doesn't go through it."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from certorbit.model.balancer import Bundle, ListenerKey
from certorbit.model.entry import ConfigID, EntryID, EntryUID, VersionID
from certorbit.pki.read import read_facts
from certorbit.ports.target import Target
from make import make_chain


@dataclass(frozen=True, kw_only=True)
class TargetBench:
    """A target with the real other side (or a stand-in that is named as such).

    listener, other: two of its listeners. Each has a default certificate of somebody else already, if the provider
        can't be without one.
    served: fingerprint (lower-case hex SHA-256) of the leaf that a listener serves for a server name ("": without
        SNI), by a TLS handshake with the real thing or by the provider's own API; "" if none.
    has_sni: whether a listener takes certificates beside its default (`max_certificates` > 0).
    is_in_place: whether a new version of the same key type keeps the handle.
    key_type: of the certificates that the suite makes.
    """

    target: Target
    listener: ListenerKey
    other: ListenerKey
    served: Callable[[ListenerKey, str], Awaitable[str]]
    has_sni: bool = True
    is_in_place: bool = True
    key_type: str = "ecdsa-p256"


_NOW = datetime.now(UTC)  # one instant, so that the authorities are the same ones for all bundles

OpenBench = Callable[[Path, AsyncExitStack], Awaitable[TargetBench]]


@cache
def make_bundle(entry: str, version: int = 1, *, names: tuple[str, ...] = (), key_type: str = "ecdsa-p256") -> Bundle:
    """Return a version of an entry, the same one each time: another number is another certificate and key."""
    chain = make_chain(names=list(names) or [f"{entry}.example.com"], key=key_type, key_index=100 + version, now=_NOW)
    return Bundle(
        config=ConfigID("prod"),
        entry_id=EntryID(entry),
        entry_uid=EntryUID(f"uid-{entry}"),
        version=VersionID(f"{entry}-version-{version}"),
        chain_pem=chain.chain_pem,
        key=chain.private_key,
        facts=read_facts(chain.leaf),
    )

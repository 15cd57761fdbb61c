"""What tests of targets in files and behind a webhook share: parts, ports, handshakes, polling with a deadline."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from hashlib import sha256
from typing import Any, cast

from certorbit.clock import SystemChance, SystemClock
from certorbit.model.balancer import Bundle, ListenerKey
from certorbit.targets.registry import TargetParts
from targets.target_bench import make_bundle

_UNUSED = cast("Any", None)


def make_parts(clock: Any = None) -> TargetParts:
    """Return the parts for targets that count no quota and keep no shelf."""
    return TargetParts(clock=clock or SystemClock(), chance=SystemChance(), quota=_UNUSED, shelf=_UNUSED)


def bundle_of(entry: str, version: int = 1, *, names: tuple[str, ...] = ()) -> Bundle:
    """Return `make_bundle`'s, always asked in one form: its cache takes another form for another certificate."""
    return make_bundle(entry, version, names=names)


def leaf_of(entry: str, version: int = 1, *, names: tuple[str, ...] = ()) -> str:
    """Return the fingerprint of that bundle's leaf."""
    return bundle_of(entry, version, names=names).facts.fingerprint


def key_of(target: str, listener: str, port: int) -> ListenerKey:
    return ListenerKey(target, "", target, listener, port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


async def shake_hands(port: int, server_name: str, *, seconds: float = 10.0) -> str:
    """Return the fingerprint of the leaf that is served on loopback. Raises OSError: no handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with asyncio.timeout(seconds):
        if server_name:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=server_name)
        else:  # asyncio wants a name; an address is none that goes into SNI
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
    try:
        leaf: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return sha256(leaf).hexdigest()


async def served_at(port: int, server_name: str) -> str:
    """Return the fingerprint of the leaf that is served on loopback, "" if there is no handshake."""
    try:
        return await shake_hands(port, server_name)
    except (OSError, ssl.SSLError):
        return ""


async def wait_until(is_so: Callable[[], bool], *, what: str, seconds: float = 20.0) -> None:
    """Poll until it is so; fail after the deadline."""
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.02)
    assert is_so(), what

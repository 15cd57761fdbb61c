"""Trying to get past a TLS handshake without a client certificate, on a connected socket.

In TLS 1.3 a client has finished before the server says that it misses a certificate: the alert comes with the next
bytes. So what the server sends first after the handshake is waited for. nginx lets everybody shake hands and then
answers any request with a page of its own: only of such a server something is asked. Else no application data is sent.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_READ_BYTES: Final = 16 * 1024
_SAYS_NO_LATER: Final = "TLSv1.3"  # in TLS 1.2 whom a server doesn't let in never gets its Finished message
_MOST_BYTES: Final = 256 * 1024
# A server that lets us in may have nothing to say (no session tickets); one that doesn't says so within a round trip.
ALERT_SECONDS: Final = 2.0
# nginx's page for status 495 and 496, which it sends as 400 unless somebody gave it another (error_page). Where clients
# are checked it first answers 421 to whoever asks for another host than he shook hands for.
_CLOSED_PAGE: Final = re.compile(rb"HTTP/1\.[01] (?:421 |(?:400|495|496) .*SSL certificate)", re.DOTALL)
_MOST_OF_PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Tried:
    """How it ended. session: to go on with, if there is one. is_resumed: the server took the session given."""

    gets_in: bool
    session: ssl.SSLSession | None = None
    is_resumed: bool = False


REFUSED: Final = Tried(gets_in=False)


async def try_door(
    connection: socket.socket,
    *,
    context: ssl.SSLContext,
    server_name: str,
    session: ssl.SSLSession | None = None,
    asks: str = "",
) -> Tried:
    """Return whether the server lets a client in that shows no certificate. The time limit is the caller's.

    Args:
        connection: connected, non-blocking; stays the caller's to close.
        session: of an earlier handshake with the same context.
        asks: a host's name: the server says by HTTP whom it doesn't let in, so ask it for `/` of that host.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    loop = asyncio.get_running_loop()
    received = 0

    async def exchange() -> None:
        """Send what we have to say and take in what comes. Raises OSError: the connection ended."""
        nonlocal received
        if outgoing.pending:
            await loop.sock_sendall(connection, outgoing.read())
        data = await loop.sock_recv(connection, _READ_BYTES)
        received += len(data)
        if not data or received > _MOST_BYTES:
            raise ConnectionError
        incoming.write(data)

    try:
        tls = context.wrap_bio(incoming, outgoing, server_hostname=server_name or None, session=session)
        while not _advance(tls):
            await exchange()
        if outgoing.pending:
            await loop.sock_sendall(connection, outgoing.read())
        is_closed = bool(asks) and await _is_told_no(tls, exchange, host=asks)
        if not asks and _take_in(tls) and tls.version() == _SAYS_NO_LATER:
            await _wait_for_word(exchange)
            _take_in(tls)
    except (OSError, ValueError, TypeError):  # ssl.SSLError is an OSError; the others: a name that can't be sent
        return REFUSED
    return Tried(gets_in=not is_closed, session=tls.session, is_resumed=bool(tls.session_reused))


async def _is_told_no(tls: ssl.SSLObject, exchange: Callable[[], Awaitable[None]], *, host: str) -> bool:
    """Ask for a page and return whether the answer is that a certificate is missing.

    Raises:
        OSError: the connection ended without an answer.
    """
    tls.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
    answer = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(ALERT_SECONDS):
            while len(answer) < _MOST_OF_PAGE and not _CLOSED_PAGE.match(answer):
                try:
                    piece = tls.read(_MOST_OF_PAGE)
                except ssl.SSLWantReadError:
                    await exchange()
                    continue
                if not piece:
                    break
                answer += piece
    return _CLOSED_PAGE.match(answer) is not None


async def _wait_for_word(exchange: Callable[[], Awaitable[None]]) -> None:
    """Wait for the server's first bytes after the handshake, for a while."""
    try:
        async with asyncio.timeout(ALERT_SECONDS):
            await exchange()
    except TimeoutError:
        return


def _advance(tls: ssl.SSLObject) -> bool:
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _take_in(tls: ssl.SSLObject) -> bool:
    """Take in what came after the handshake: tickets are kept, an alert raises ssl.SSLError.

    Returns: whether there may be more to wait for; False: the server has sent application data, or said goodbye.
    """
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return True
    return False

"""Clients of the service's own HTTPS that never end their handshake: cut off, in any state, and nobody else."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPSConnection

import pytest
import uvloop

from certorbit.cli.serving import Server, listen
from certorbit.clock import SystemClock
from certorbit.model.identifiers import Identifier, IdentifierType
from certorbit.net.server_tls import make_server_context
from certorbit.pki.selfsigned import make_self_signed

LIMIT = 2.0  # seconds; enough for the sound clients' handshakes on a busy machine
PATIENCE = 30.0  # seconds; a server that does not hang up fails the test
SERVER_HANDSHAKE = b"\x16\x03\x03"  # RFC 8446 §5.1: a record of the handshake


def make_context() -> ssl.SSLContext:
    names = [Identifier(IdentifierType.DNS, "localhost")]
    material = make_self_signed(names, common_name="Certorbit", now=SystemClock().now())
    assert material.key is not None
    return make_server_context(material.chain_pem, material.key, clients=None)


async def answer(scope: object, receive: object, send: object) -> None:
    """The smallest ASGI application."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]


@contextmanager
def running(*, handshake_seconds: float) -> Iterator[int]:
    """Run a server as `certorbit serve` does, on its event loop; gives the port."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = Server(answer, listener=listener, context=make_context(), handshake_seconds=handshake_seconds)
        thread = threading.Thread(target=lambda: uvloop.run(server.serve()), daemon=True)
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(timeout=PATIENCE)
            assert not thread.is_alive()


def trust_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def hello() -> bytes:
    """Return a sound first message of a client."""
    outgoing = ssl.MemoryBIO()
    client = trust_all().wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def read_to_end(connection: socket.socket) -> bytes:
    """Return what the server sends until it hangs up. Raises TimeoutError: it does not."""
    received = b""
    try:
        while piece := connection.recv(16_384):
            received += piece
    except ConnectionResetError:
        pass
    return received


def test_who_never_ends_the_handshake_is_cut_off_and_others_are_served() -> None:
    with running(handshake_seconds=LIMIT) as port, ExitStack() as stack:
        kept = stack.enter_context(closing(HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=trust_all())))
        assert ask(kept) == 200
        kept.auto_open = 0  # from here on this one connection alone
        silent, halfway, deaf = (
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) for _ in range(3)
        )
        halfway.sendall(hello()[:20])
        deaf.sendall(hello())  # and never takes what the server answers
        assert ask(kept) == 200, "who halts holds up nobody"
        received = [read_to_end(halted) for halted in (silent, halfway, deaf)]
        assert received[0] == received[1] == b""
        assert received[2].startswith(SERVER_HANDSHAKE)
        assert ask(kept) == 200, "the limit is for handshakes, not for connections"


def test_the_limit_holds_for_the_next_certificate_too() -> None:
    with listen("127.0.0.1", 0) as listener:
        asyncio.run(change_while_serving(listener))


async def change_while_serving(listener: socket.socket) -> None:
    server = Server(answer, listener=listener, context=make_context(), handshake_seconds=LIMIT)
    serving = asyncio.create_task(server.serve())
    try:
        reader, writer = await asyncio.open_connection(*listener.getsockname()[:2], ssl=trust_all())
        await server.serve_with(make_context(), hang_up=False)
        halted, its_end = await asyncio.open_connection(*listener.getsockname()[:2])
        assert await asyncio.wait_for(halted.read(), PATIENCE) == b""
        its_end.close()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
    finally:
        server.should_exit = True
        await serving


def ask(connection: HTTPSConnection) -> int:
    connection.request("GET", "/")
    got = connection.getresponse()
    got.read()
    return got.status

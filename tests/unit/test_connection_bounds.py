"""What a client may send over one connection, and how long it may take: more is refused, and others are served."""

import asyncio
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress

import pytest

from certorbit.cli.http_connection import Bounds
from certorbit.cli.serving import Server, listen

PATIENCE = 30.0  # seconds; a server that neither answers nor hangs up fails the test
QUICK = Bounds(head_seconds=0.3, body_seconds=0.3, rest_seconds=0.3)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /whole HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LATER = b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSING = GET + b"Connection: close\r\n\r\n"


class App:
    """The smallest application: answers with the headers' number; /whole reads the body first, /later waits."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.events: list[str] = []

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["path"] == "/later":
            await self.go_on.wait()
        while scope["path"] == "/whole":
            event = await receive()
            if not event.get("more_body"):
                self.events.append(event["type"])
                break
        body = str(len(scope["headers"])).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


def connect(address: tuple[str, int]) -> socket.socket:
    peer = socket.create_connection(address)
    peer.setblocking(False)
    return peer


@asynccontextmanager
async def serving(bounds: Bounds | None = None) -> AsyncIterator[tuple[App, Callable[[], socket.socket]]]:
    """Serve; gives the application and what opens a connection."""
    with listen("127.0.0.1", 0) as listener:
        app = App()
        server = Server(app, listener=listener, bounds=bounds or Bounds())
        running = asyncio.create_task(server.serve())
        address = listener.getsockname()[:2]
        try:
            with ExitStack() as stack:
                yield app, lambda: stack.enter_context(connect(address))
            with connect(address) as other:
                await send(other, [CLOSING])
                assert statuses(await read_to_end(other)) == [200], "others are served"
        finally:
            app.go_on.set()
            server.should_exit = True
            await running


async def read_to_end(peer: socket.socket) -> bytes:
    """Return what the server sends until it hangs up. Raises TimeoutError: it does not."""
    received = b""
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionResetError):
            while piece := await asyncio.get_running_loop().sock_recv(peer, 65536):
                received += piece
    return received


async def send(peer: socket.socket, pieces: Iterable[bytes]) -> int:
    """Send until the server hangs up; gives how much was taken."""
    sent = 0
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionError):
            for piece in pieces:
                await asyncio.get_running_loop().sock_sendall(peer, piece)
                sent += len(piece)
    return sent


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answers)]


MANY = b"X-Abcdefgh: y\r\n" * 100
ENDLESS = {
    "short headers": (GET, MANY, 431),
    "one value": (GET + b"X: ", b"a" * 1000, 431),
    "one name": (GET, b"a" * 1000, 431),
    "a folded value": (GET + b"X: y\r\n", b" a\r\n" * 100, 400),
    "a path": (b"GET /", b"a" * 1000, 414),
    "a query": (b"GET /?", b"a=b&" * 100, 414),
    "line ends before a request": (b"", b"\r\n" * 100, 431),
    "trailers": (POST + CHUNKED + b"1\r\na\r\n0\r\n", MANY, 431),
    "one trailer": (POST + CHUNKED + b"0\r\nX: ", b"a" * 1000, 431),
    "an extension of a chunk": (POST + CHUNKED + b"1;", b"a" * 1000, 431),
}


@pytest.mark.parametrize(("begin", "piece", "answer"), ENDLESS.values(), ids=ENDLESS)
async def test_what_never_ends_is_refused_after_little(begin: bytes, piece: bytes, answer: int) -> None:
    async with serving() as (_, knock):
        peer = knock()
        sent = await send(peer, itertools.chain([begin], itertools.repeat(piece, 100_000)))
        assert sent < 20_000_000, "what the kernels' buffers hold, and no more"
        received = await read_to_end(peer)
        assert statuses(received) == [answer]
        assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == answer


async def ask(peer: socket.socket, request: bytes) -> bytes:
    """Send a request and return the application's answer."""
    await send(peer, [request])
    answer = b""
    async with asyncio.timeout(PATIENCE):
        while not re.search(rb"\r\n\r\n\d+$", answer):
            piece = await asyncio.get_running_loop().sock_recv(peer, 65536)
            assert piece, "it hung up"
            answer += piece
    return answer


@pytest.mark.parametrize(("begin", "piece"), [(b"", b"\r\n" * 100), (GET, MANY)], ids=["line ends", "headers"])
async def test_a_later_request_is_bounded_as_the_first_one_is(begin: bytes, piece: bytes) -> None:
    async with serving() as (_, knock):
        peer = knock()
        assert statuses(await ask(peer, GET + b"\r\n")) == [200]
        assert await send(peer, itertools.chain([begin], itertools.repeat(piece, 100_000))) < 20_000_000
        assert statuses(await read_to_end(peer)) == [431]


async def test_each_request_of_a_connection_is_counted_anew() -> None:
    most = GET + b"X: %s\r\n" % (b"a" * 60_000) + b"Y: z\r\n" * 98 + b"\r\n"
    async with serving() as (_, knock):
        peer = knock()
        for _ in range(5):
            assert (await ask(peer, most)).endswith(b"\r\n\r\n100")
        await send(peer, [GET + b"Y: z\r\n" * 100 + b"\r\n"])
        assert statuses(await read_to_end(peer)) == [431]


async def test_trailers_are_no_headers() -> None:
    async with serving() as (_, knock):
        answer = await ask(knock(), POST + CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Basic x\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n2")


@pytest.mark.parametrize("fault", [GET + MANY, b"GET\r\n"], ids=["too many headers", "no request at all"])
async def test_what_is_wrong_with_the_next_request_is_no_answer_to_the_one_under_way(fault: bytes) -> None:
    async with serving() as (app, knock):
        peer = knock()
        await send(peer, [LATER + fault])
        await send(peer, [CLOSING])
        app.go_on.set()
        assert statuses(await read_to_end(peer)) == [200]


async def test_only_some_requests_are_taken_before_the_first_one_is_answered() -> None:
    async with serving() as (app, knock):
        peer = knock()
        await send(peer, [LATER + (GET + b"\r\n") * 1000])
        app.go_on.set()
        assert statuses(await read_to_end(peer)) == [200] * (1 + Bounds().most_waiting)


LATE = {
    "nothing": (b"", []),
    "line ends": (b"\r\n", [408]),
    "half a request line": (b"GET /", [408]),
    "half of the headers": (GET, [408]),
    "half a request after another one": (GET + b"\r\n" + GET, [200, 408]),
    "half a body": (POST + b"Content-Length: 2\r\n\r\na", [408]),
    "half of the trailers": (POST + CHUNKED + b"0\r\nX: y\r\n", [408]),
    "half a body that nobody waits for": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na", [200]),
}


@pytest.mark.parametrize(("piece", "answers"), LATE.values(), ids=LATE)
async def test_who_does_not_come_to_an_end_is_cut_off(piece: bytes, answers: list[int]) -> None:
    async with serving(QUICK) as (app, knock):
        peer = knock()
        await send(peer, [piece])
        assert statuses(await read_to_end(peer)) == answers
        assert app.events == ["http.disconnect"] * piece.startswith(POST)


async def test_a_line_end_after_a_request_gains_no_time() -> None:
    async with serving(QUICK) as (_, knock):
        peer = knock()
        assert statuses(await ask(peer, GET + b"\r\n")) == [200]
        await send(peer, [b"\r\n"])
        assert statuses(await read_to_end(peer)) == [408]


@pytest.mark.parametrize(
    ("begin", "drip"), [(b"", b"\r\n"), (GET, b"X"), (GET, b"X: y\r\n")], ids=["line ends", "a name", "headers"]
)
async def test_dripping_gains_no_time(begin: bytes, drip: bytes) -> None:
    async with serving(QUICK) as (_, knock):
        peer = knock()
        await send(peer, [begin])

        async def send_slowly() -> None:
            while True:
                await asyncio.sleep(0.02)
                await send(peer, [drip])

        dripping = asyncio.create_task(send_slowly())
        assert statuses(await read_to_end(peer)) == [408]
        dripping.cancel()


async def test_the_limits_are_for_what_clients_send_and_not_for_answers_or_idling() -> None:
    async with serving(QUICK) as (app, knock):
        idle, waiting = knock(), knock()
        await send(waiting, [LATER])
        assert statuses(await ask(idle, GET + b"\r\n")) == [200]
        silent = knock()
        assert await read_to_end(silent) == b"", "the limits of the others would be over by now, too"
        assert statuses(await ask(idle, GET + b"\r\n")) == [200]
        app.go_on.set()
        assert statuses(await ask(waiting, b"")) == [200]

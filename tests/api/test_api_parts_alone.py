"""Parts of the API by themselves: what a request through the whole can't bring about."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from api.server import API, serve
from api.shapes import assert_error
from certorbit.api.app import make_app
from certorbit.api.authentication import Need
from certorbit.api.challenges import make_challenge_app
from certorbit.api.errors import Guard
from certorbit.api.known_keys import KnownKeys
from certorbit.errors import NotSignedIn, Unreachable
from certorbit.model.access import APIKeyID, Right
from certorbit.model.order import Challenge
from certorbit.ports.store import UnitOfWork
from certorbit.services.api_keys import Recognised
from fakes.clock import FakeClock
from records import make_api_key

T = TypeVar("T")


class CountingStore:
    """Answers every read with the key whose id is the number of reads so far; `gate` holds reads back."""

    def __init__(self) -> None:
        self.reads = self.writes = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        self.reads += 1
        number = self.reads
        await self.gate.wait()
        recognised: Any = Recognised(make_api_key(str(number)), None)
        found: T = recognised
        return found

    async def write(self, work: Callable[[UnitOfWork], T]) -> T:
        self.writes += 1
        return cast("T", None)


async def test_a_known_key_is_looked_up_once_in_two_seconds() -> None:
    store, clock = CountingStore(), FakeClock()
    known = KnownKeys(store=store, clock=clock)
    first = await known.authenticate("k")
    clock.advance(2)
    assert await known.authenticate("k") == first
    clock.advance(0.1)
    assert await known.authenticate("k") != first
    clock.advance(-60)
    assert (await known.authenticate("k")).key_id == "3", "a clock set back doesn't make a key live longer"


async def test_the_memory_of_keys_is_bounded_and_drops_the_oldest() -> None:
    store = CountingStore()
    known = KnownKeys(store=store, clock=FakeClock())
    for number in range(1025):
        await known.authenticate(str(number))
    assert (await known.authenticate("1")).key_id == "2"
    assert (await known.authenticate("0")).key_id == "1026"


async def test_what_was_read_before_a_revocation_is_not_remembered_after_it() -> None:
    store = CountingStore()
    known = KnownKeys(store=store, clock=FakeClock())
    store.gate.clear()
    under_way = asyncio.create_task(known.authenticate("k"))
    while not store.reads:
        await asyncio.sleep(0)
    known.forget(APIKeyID("1"))
    store.gate.set()
    assert (await under_way).key_id == "1"
    assert (await known.authenticate("k")).key_id == "2"


async def test_an_endpoint_refuses_a_request_that_no_middleware_signed_in() -> None:
    request = Request({"type": "http", "headers": [], "state": {}})
    with pytest.raises(NotSignedIn):
        await Need(Right.READ)(request)


async def test_an_answer_that_broke_off_is_not_followed_by_another() -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("halfway")

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="halfway"):
        await Guard(app)({"type": "http", "state": {"request_id": "r"}}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_an_unreachable_database_is_503_at_every_door_and_logged(api: API) -> None:
    class DownStore:
        async def read(self, work: object) -> object:
            raise Unreachable("The database does not answer.", subject="db.example.test", phase="database")

    parts = replace(api.parts, store=DownStore())  # type: ignore[arg-type]
    with serve(make_app(parts)) as port:
        down = replace(api, port=port)
        for path in ("/api/v4.0/conf/prod/certificates", "/metrics", "/.well-known/acme-challenge/a"):
            answer = down.call("GET", path)
            assert_error(answer, 503, says="The database does not answer.")
            assert int(answer.headers["retry-after"]) > 0
            events = [e for e in api.log_events() if e.get("request_id") == answer.headers["x-request-id"]]
            assert [e["event"] for e in events] == ["http.unavailable", "http.request"]
        assert down.call("GET", "/healthz", key=None).status == 200


class TroubledStore:
    """Does not answer for the first so many reads; then it has one challenge."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def read(self, work: object) -> Challenge:
        self.failures -= 1
        if self.failures >= 0:
            raise Unreachable("The database does not answer.", subject="db.example.test", phase="database")
        return Challenge("token", "token.thumbprint", FakeClock().now())


@pytest.mark.parametrize(("failures", "status", "waited"), [(0, 200, 0.0), (2, 200, 1.5), (99, 503, 3.5)])
async def test_the_challenge_listener_keeps_the_ca_waiting_while_the_database_restarts(
    api: API, failures: int, status: int, waited: float
) -> None:
    clock = FakeClock(auto_advance=True)
    parts = replace(api.parts, store=TroubledStore(failures), clock=clock)  # type: ignore[arg-type]
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("a look-up has no body")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/.well-known/acme-challenge/token"}
    await make_challenge_app(parts)(scope, receive, send)
    assert sent[0]["status"] == status
    assert sum(clock.slept) == waited


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/.well-known/acme-challenge/token", 405),
        ("HEAD", "/.well-known/acme-challenge/token", 200),
        ("GET", "/.well-known/acme-challenge/token/", 200),
        ("GET", "/.well-known/acme-challenge/../secret", 404),
        ("GET", "/api/v4.0/conf/prod/certificates", 404),
    ],
)
def test_the_challenge_listener_answers_nothing_else(api: API, method: str, path: str, status: int) -> None:
    with serve(make_challenge_app(replace(api.parts, store=TroubledStore(0)))) as port:  # type: ignore[arg-type]
        answer = replace(api, port=port).call(method, path, key=None)
        assert answer.status == status
        assert (answer.headers.get("allow") == "GET, HEAD") is (status == 405)


def test_without_a_built_in_ca_its_files_are_404(api: API) -> None:
    with serve(make_app(replace(api.parts, authority=None))) as port:
        alone = replace(api, port=port)
        for path in ("/api/certorbit/v1/issuers/internal/root.pem", "/crl/internal.crl"):
            assert_error(alone.call("GET", path, key=None), 404, says="no built-in CA")

"""A CA that is down, broken, slow or hostile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from certorbit.acme.issuer import ACMEIssuer
from certorbit.acme.transport import MOST_ANSWER_BYTES, Transport
from certorbit.errors import BadInput, IssuerRefused, RetryRule, Unreachable
from certorbit.model.identifiers import normalise_identifiers
from certorbit.net.guard import AddressGuard, AddressRefused
from fakes.clock import FakeClock
from fakes.fake_ca import HANG_UP, FakeCA, Say, problem
from fakes.fake_chains import make_csr
from fakes.memory_store import MemoryStore

MakeIssuer = Callable[..., ACMEIssuer]
NAMES = normalise_identifiers(["a.example"])
CSR = make_csr("a.example")

RUBBISH = {
    "html": Say(200, b"<html><body>Please log in</body></html>", {"Content-Type": "text/html"}),
    "empty": Say(200, b""),
    "truncated": Say(200, b'{"status": "pend'),
    "list": Say(200, [1, 2]),
    "number": Say(200, 7),
    "wrong types": Say(200, {"status": 5, "identifiers": {}, "authorizations": "x", "finalize": [], "newNonce": 1}),
    "unknown status": Say(200, {"status": "perhaps", "identifiers": [], "authorizations": [], "finalize": "x"}),
    "deep": Say(200, b"[" * 100_000),
    "not utf-8": Say(200, b'{"status": "\xff\xfe"}'),
    "huge": Say(200, b" " * (MOST_ANSWER_BYTES + 1)),
    "compressed": Say(200, b"\x1f\x8b\x08\x00rubbish", {"Content-Encoding": "gzip"}),
    "redirect": Say(302, b"", {"Location": "/directory"}),
}


async def run_to(door: str, ca: FakeCA, issuer: ACMEIssuer, say: Say) -> Awaitable[object]:
    """Bring an order to where the next answer of this door is what the CA says; return the step that meets it."""
    if door == "directory":
        ca.script(door, say)
        return issuer.place_order(NAMES)
    url = await issuer.place_order(NAMES)
    if door == "cert":
        await issuer.prove(url)
        await issuer.finalise(url, csr_der=CSR)
    ca.script(door, say)
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "authz": lambda: issuer.prove(url),
        "cert": lambda: issuer.collect(url),
    }
    return steps[door]()


@pytest.mark.parametrize("say", RUBBISH.values(), ids=RUBBISH)
@pytest.mark.parametrize("door", ["directory", "authz", "cert"])
async def test_rubbish_is_told_as_such_and_may_pass(ca: FakeCA, issuer: ACMEIssuer, door: str, say: Say) -> None:
    step = await run_to(door, ca, issuer, say)
    with pytest.raises(Unreachable) as caught:
        await step
    assert caught.value.phase == "answer"
    assert caught.value.retry.rule is RetryRule.BACKOFF
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600
    assert "fake" in caught.value.message


@pytest.mark.parametrize("say", RUBBISH.values(), ids=RUBBISH)
async def test_after_rubbish_for_a_certificate_request_the_order_is_looked_at(
    ca: FakeCA, issuer: ACMEIssuer, say: Say
) -> None:
    url = await issuer.place_order(NAMES)
    await issuer.prove(url)
    ca.script("finalize", Say(say.status, say.body, say.headers, then_as_usual=True))
    await issuer.finalise(url, csr_der=CSR)
    assert (ca.count("finalize"), ca.count("order")) == (1, 1)


async def test_a_page_of_a_proxy_is_shown_in_part(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("directory", RUBBISH["html"])
    with pytest.raises(Unreachable) as caught:
        await issuer.place_order(NAMES)
    assert caught.value.message == (
        f"The CA fake answered 200 for {ca.directory_url} with something that is not ACME (no JSON, text/html):"
        " '<html><body>Please log in</body></html>'."
    )


async def test_an_answer_without_end_is_not_read_to_its_end(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("directory", RUBBISH["huge"])
    with pytest.raises(Unreachable, match="answered with more than 1048576 bytes"):
        await issuer.place_order(NAMES)


async def test_a_redirect_is_not_followed(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("directory", *[RUBBISH["redirect"]] * 30)
    with pytest.raises(Unreachable, match="ACME requests follow no redirect"):
        await issuer.place_order(NAMES)
    assert ca.count("directory") == 1


async def test_a_ca_that_is_down_is_tried_four_times(make_issuer: MakeIssuer, clock: FakeClock) -> None:
    async with FakeCA() as ca:
        directory = ca.directory_url
    with pytest.raises(Unreachable, match=r"can't be reached \(connect 127\.0\.0\.1\)") as caught:
        await make_issuer(directory).place_order(NAMES)
    assert caught.value.phase == "connect"
    assert clock.slept == [0.25, 0.5, 1.0], "full jitter, at its middle, below 0.5, 1 and 2 seconds"


async def test_a_name_that_does_not_resolve_is_told(make_issuer: MakeIssuer) -> None:
    with pytest.raises(Unreachable) as caught:
        await make_issuer("https://acme.invalid./directory").place_order(NAMES)
    assert caught.value.phase == "resolve"
    assert caught.value.subject == "acme.invalid."


async def test_a_short_outage_is_sat_out(ca: FakeCA, issuer: ACMEIssuer, clock: FakeClock) -> None:
    ca.script("directory", Say(503), HANG_UP, Say(502, b"<html>"))
    ca.script("nonce", HANG_UP)
    ca.script("authz", Say(500), Say(429, b"", {"Retry-After": "4"}), HANG_UP)
    await issuer.prove(await issuer.place_order(NAMES))
    assert any(pause > 4 for pause in clock.slept), "the CA's Retry-After is waited for"


async def test_a_long_retry_after_is_left_to_the_workflow(ca: FakeCA, issuer: ACMEIssuer, clock: FakeClock) -> None:
    ca.script("directory", Say(503, b"", {"Retry-After": "3600"}))
    with pytest.raises(Unreachable) as caught:
        await issuer.place_order(NAMES)
    assert caught.value.retry.rule is RetryRule.AT
    assert caught.value.retry.at is not None
    assert (caught.value.retry.at - clock.now()).total_seconds() == 3600
    assert clock.slept == []


async def test_a_storm_of_bad_nonces_is_weathered(ca: FakeCA, issuer: ACMEIssuer) -> None:
    await issuer.place_order(NAMES)
    ca.script("new-order", *[problem(400, "badNonce")] * 9)
    await issuer.place_order(NAMES)
    assert len(ca.orders) == 2
    assert ca.count("nonce") == 1, "the error answers bring the next nonces"


async def test_an_endless_storm_of_bad_nonces_ends(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("new-order", *[problem(400, "badNonce", "no, no")] * 100)
    with pytest.raises(IssuerRefused, match="badNonce: no, no") as caught:
        await issuer.place_order(NAMES)
    assert caught.value.retry.rule is RetryRule.BACKOFF
    assert ca.count("new-order") == 10


async def test_a_ca_that_gives_no_nonces_is_told(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("nonce", Say(200, b"", {"Replay-Nonce": "not a nonce"}))
    with pytest.raises(Unreachable, match="no usable Replay-Nonce"):
        await issuer.place_order(NAMES)


@pytest.mark.parametrize(
    "token", ["../../etc/passwd", "a/b", "a b", "a\r\nb", "", "ä", "x" * 300, 5, None, "a.b", "a="]
)
async def test_a_token_outside_of_base64url_is_never_presented(
    ca: FakeCA, issuer: ACMEIssuer, store: MemoryStore, token: object
) -> None:
    url = await issuer.place_order(NAMES)
    (authorization,) = ca.authorizations.values()
    for challenge in authorization["challenges"]:
        challenge["token"] = token
    written: list[object] = []
    store.before_repeat = lambda: written.append(1)
    store.races = 1
    with pytest.raises((Unreachable, IssuerRefused)):
        await issuer.prove(url)
    assert written == [], "nothing was written"
    assert ca.count("challenge") == 0


HOSTILE_URLS = [
    "https://user:secret@127.0.0.1/x",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1/x",
    "//127.0.0.1/x",
    "http://",
    "http://127.0.0.1:99999/x",
    "http://127.0.0.1/a b",
    "http://127.0.0.1/\r\nX-Evil: 1",
    "http://127.0.0.1/#fragment",
    "http://[::1/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/x",
    "http://0.0.0.0/x",
    "http://127.0.0.1/" + "x" * 3000,
]


# A header can't hold every URL, and some are relative there.
IN_A_HEADER = [url for url in HOSTILE_URLS if "\r" not in url and url not in {"//127.0.0.1/x", "http://"}]


@pytest.mark.parametrize(
    ("place", "url"),
    [(place, url) for place in ("authorizations", "finalize", "newOrder") for url in HOSTILE_URLS]
    + [("Location", url) for url in IN_A_HEADER],
)
async def test_a_hostile_url_is_not_asked(ca: FakeCA, make_issuer: MakeIssuer, url: str, place: str) -> None:
    order = {"status": "ready", "identifiers": [], "authorizations": [], "finalize": f"{ca.url}/finalize/1"}
    location = f"{ca.url}/order/1"
    match place:
        case "Location":
            location = url
        case "newOrder":
            ca.more_doors = {"newOrder": url}
        case "authorizations":
            order |= {"status": "pending", "authorizations": [url]}
        case _:
            order |= {"finalize": url}
    ca.script("new-order", Say(201, order, {"Location": location}))

    async def run() -> None:
        issuer = make_issuer(ca.directory_url)
        order_url = await issuer.place_order(NAMES)
        await issuer.prove(order_url)
        await issuer.finalise(order_url, csr_der=CSR)
        await make_issuer(ca.directory_url).prove(order_url)

    with pytest.raises(Unreachable) as caught:
        await run()
    assert caught.value.phase in {"guard", "answer"}
    assert "secret" not in caught.value.message


async def test_a_directory_is_read_anew_after_an_hour_and_after_a_failure(
    ca: FakeCA, issuer: ACMEIssuer, clock: FakeClock
) -> None:
    for _ in range(3):
        await issuer.place_order(NAMES)
    assert ca.count("directory") == 1
    clock.advance(minutes=61)
    await issuer.place_order(NAMES)
    assert ca.count("directory") == 2
    ca.script("new-order", problem(404, "malformed", "moved"))
    with pytest.raises(IssuerRefused, match="moved"):
        await issuer.place_order(NAMES)
    await issuer.place_order(NAMES)
    assert ca.count("directory") == 3


async def test_an_order_whose_text_is_rubbish_is_not_lost(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("new-order", Say(201, b"<html>", {"Location": f"{ca.url}/order/77"}))
    assert await issuer.place_order(NAMES) == f"{ca.url}/order/77"


async def test_an_order_without_a_url_is_rubbish(ca: FakeCA, issuer: ACMEIssuer) -> None:
    ca.script("new-order", Say(201, {}))
    with pytest.raises(Unreachable, match="no Location of the order"):
        await issuer.place_order(NAMES)


async def test_a_list_of_orders_in_a_circle_ends(ca: FakeCA, issuer: ACMEIssuer) -> None:
    url = await issuer.place_order(NAMES)
    page = Say(200, {"orders": [url, 7, None]}, {"Link": f'<{ca.url}/orders/1>;rel="next"'})
    ca.script("orders", *[page] * 300)
    assert await issuer.find_orders(NAMES) == [url]
    assert ca.count("orders") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN RSA PRIVATE KEY-----\n",
        b"no PEM",
        b"\xff\xfe",
    ],
)
async def test_a_download_that_is_no_chain_is_refused(ca: FakeCA, issuer: ACMEIssuer, body: bytes) -> None:
    step = await run_to("cert", ca, issuer, Say(200, body))
    with pytest.raises(Unreachable, match="no PEM chain"):
        await step


async def test_no_more_requests_are_in_flight_than_allowed() -> None:
    running, most = 0, 0
    release = asyncio.Event()

    async def serve(_: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            release.set()
        await release.wait()
        running -= 1
        return web.Response()

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    transport = Transport(ca="fake", directory=url, ca_bundle=None, max_requests_in_flight=3)
    await asyncio.gather(*(transport.send("GET", url) for _ in range(12)))
    await transport.close()
    await runner.cleanup()
    assert most == 3


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_cannot_be_used_is_told_at_the_start(
    tmp_path: Path, make_issuer: MakeIssuer, content: str | None
) -> None:
    bundle = tmp_path / "roots.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(BadInput, match="ca_bundle") as caught:
        make_issuer("https://ca.example/directory", ca_bundle=bundle)
    assert caught.value.subject == "ca_bundle"


async def test_a_failed_clean_up_does_not_hide_the_success(ca: FakeCA, issuer: ACMEIssuer, store: MemoryStore) -> None:
    url = await issuer.place_order(NAMES)
    store.fail_deletes = True
    await issuer.prove(url)
    assert len(store.challenges) == 1


async def test_a_public_ca_cannot_lead_us_to_an_address_of_ours(ca: FakeCA) -> None:
    guard = AddressGuard("http://8.8.8.8/directory")
    async with aiohttp.ClientSession(connector=guard.connector(ssl_context=True, limit=1)) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(ca.directory_url)
    assert isinstance(caught.value.os_error, AddressRefused)
    assert ca.visits == []


@asynccontextmanager
async def raw_server(octets: bytes, *, hang: bool = False) -> AsyncIterator[str]:
    """A server that answers every connection with these octets and hangs up, or keeps silent."""
    silence = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(octets)
        if hang:
            await silence.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/directory"
    finally:
        silence.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 \x1b[31m\r\n\r\n",
    ],
    ids=["nothing", "another protocol", "cut off", "bad chunks", "endless header", "bad status"],
)
async def test_broken_http_is_told_as_no_answer(make_issuer: MakeIssuer, octets: bytes) -> None:
    async with raw_server(octets) as directory:
        with pytest.raises(Unreachable) as caught:
            await make_issuer(directory).place_order(NAMES)
    assert caught.value.phase == "read"
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("octets", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
async def test_a_ca_that_keeps_silent_is_left(octets: bytes) -> None:
    async with raw_server(octets, hang=True) as directory:
        transport = Transport(
            ca="fake", directory=directory, ca_bundle=None, max_requests_in_flight=1, total_seconds=0.05
        )
        with pytest.raises(Unreachable, match="no answer in time") as caught:
            await transport.send("GET", directory)
        await transport.close()
    assert caught.value.phase == "read", "the CA may have received it"

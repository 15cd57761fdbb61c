"""The guarded fetcher against servers, redirects and name servers that mean no good."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from certorbit.errors import NEVER, Unreachable
from certorbit.net.fetch import Bounds, Fetched, GuardedFetcher, Validators
from certorbit.net.outbound_rules import OutboundRules, rules_from
from certorbit.outbound_settings import OutboundSettings
from hostile_web import Answer, FickleDNS, Web, run_web

BOUNDS = Bounds(most_bytes=100_000, seconds=20.0)
METADATA = "http://169.254.169.254/latest/meta-data/"


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with run_web() as running:
        yield running


async def fetch(web: Web, url: str, *, bounds: Bounds = BOUNDS, known: Validators | None = None) -> Fetched:
    return await GuardedFetcher(web.rules()).fetch(url, bounds=bounds, known=known)


async def refusal(web: Web, url: str, *, bounds: Bounds = BOUNDS, rules: OutboundRules | None = None) -> Unreachable:
    """Return the refusal by the guard: nothing else may come of it, and trying again is of no use."""
    with pytest.raises(Unreachable) as caught:
        await GuardedFetcher(rules or web.rules()).fetch(url, bounds=bounds)
    assert caught.value.phase == "guard"
    assert caught.value.retry == NEVER
    assert caught.value.message.isprintable()
    return caught.value


async def test_what_is_at_the_url_comes_with_its_validators(web: Web) -> None:
    url = web.say("/a.crl", b"abc", headers=['ETag: "7"', "Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT"])
    found = await fetch(web, url)
    assert found == Fetched(b"abc", Validators('"7"', "Tue, 24 Nov 2026 12:00:00 GMT"))
    assert "Accept-Encoding: identity\r\n" in web.requests[0]
    assert "If-None-Match" not in web.requests[0]


async def test_an_upper_case_scheme_is_the_same_scheme(web: Web) -> None:
    assert (await fetch(web, web.say("/a", b"abc").replace("http", "HTTP"))).body == b"abc"


async def test_a_known_copy_makes_the_request_conditional_and_304_keeps_it(web: Web) -> None:
    known = Validators('"7"', "Tue, 24 Nov 2026 12:00:00 GMT")
    assert await fetch(web, web.say("/a", status="304 Not Modified"), known=known) == Fetched(None, known)
    assert 'If-None-Match: "7"\r\n' in web.requests[0]
    assert "If-Modified-Since: Tue, 24 Nov 2026 12:00:00 GMT\r\n" in web.requests[0]


@pytest.mark.parametrize("etag", ['"\xff"', '"' + "x" * 2000 + '"'], ids=["not-ascii", "long"])
async def test_a_validator_that_could_not_be_sent_back_is_not_kept(web: Web, etag: str) -> None:
    web.answers["/a"] = _raw(f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: {etag}\r\n\r\nabc".encode("latin-1"))
    assert await fetch(web, web.url("/a")) == Fetched(b"abc", Validators())


async def test_304_to_who_has_no_copy_is_no_answer(web: Web) -> None:
    with pytest.raises(Unreachable, match="answered 304"):
        await fetch(web, web.say("/a", status="304 Not Modified"))


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content", "404 Not Found", "503 Busy"])
async def test_any_other_status_is_no_answer(web: Web, status: str) -> None:
    with pytest.raises(Unreachable, match=f"answered {status[:3]}") as caught:
        await fetch(web, web.say("/a", status=status))
    assert caught.value.phase == "read"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_followed(web: Web, status: str) -> None:
    web.say("/b", b"abc")
    assert (await fetch(web, web.redirect("/a", "/b", status=status))).body == b"abc"


async def test_three_redirects_are_followed_and_a_fourth_one_is_not(web: Web) -> None:
    for number in range(4):
        web.redirect(f"/{number}", f"/{number + 1}")
    web.say("/4", b"abc")
    assert (await fetch(web, web.url("/1"))).body == b"abc"
    assert "redirects" in (await refusal(web, web.url("/0"))).message


async def test_a_loop_of_redirects_ends(web: Web) -> None:
    assert "redirects" in (await refusal(web, web.redirect("/a", "/a"))).message
    assert len(web.requests) == 4


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "//[::1",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1:22/",
        METADATA.replace("/latest", ":80/latest"),
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1/\xe9",
    ],
)
async def test_a_redirect_to_elsewhere_is_refused(web: Web, target: str) -> None:
    rules = OutboundRules(allow=web.rules().allow, ports=frozenset({web.port, 80}))
    error = await refusal(web, web.redirect("/a", target), rules=rules)
    assert "secret" not in error.message
    assert len(web.requests) == 1


async def test_a_redirect_without_a_target_is_no_answer(web: Web) -> None:
    with pytest.raises(Unreachable, match="without saying where to go"):
        await fetch(web, web.say("/a", status="302 Found"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "ldap://ldap.example/cn=x",
        "http://",
        "http://127.0.0.1/#part",
        "http://user@127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "http://bücher.example/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:22/",
        "https://127.0.0.1:80x/",
        "http://" + "a" * 3000,
    ],
)
async def test_a_url_that_is_not_plain_or_names_another_port_is_refused(web: Web, url: str) -> None:
    assert "secret" not in (await refusal(web, url)).message
    assert web.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "[::1]", "0.0.0.0"])
async def test_no_spelling_of_loopback_is_reached_unless_it_is_allowed(web: Web, host: str) -> None:
    web.say("/a", b"abc")
    rules = OutboundRules(ports=frozenset({web.port}))
    assert "is not asked" in (await refusal(web, web.url("/a", host=host), rules=rules)).message
    assert web.requests == []


REFUSED = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
    "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1", "::", "::1",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:8.8.8.8",
    "::ffff:169.254.169.254", "::ffff:7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808", "64:ff9b:1::a00:1",
    "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::8.8.8.8", "::a9fe:a9fe", "4000::1",
    "::ffff:0:10.0.0.1", "::ffff:0:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused_in_any_dress(address: str) -> None:
    assert not OutboundRules().permits(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "2600::1"])
def test_a_public_address_is_permitted(address: str) -> None:
    assert OutboundRules().permits(address)


@pytest.mark.parametrize(
    ("allow", "address", "permitted"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", True),
        ("10.0.0.0/8", "192.168.0.1", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", False),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.0/8", "::1", False),
        ("::1/128", "::1", True),
        ("64:ff9b::/96", "64:ff9b::808:808", True),
        ("64:ff9b::/96", "64:ff9b::a9fe:a9fe", False),
        ("::/0", "::ffff:169.254.169.254", False),
        ("::/0", "2002:a9fe:a9fe::1", False),
        ("2002::/16", "2002:808:808::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
    ],
)
def test_what_is_allowed_is_permitted_and_nothing_that_hides_in_it(
    allow: str, address: str, *, permitted: bool
) -> None:
    assert OutboundRules(allow=(ip_network(allow),)).permits(address) is permitted


async def test_a_name_that_leads_to_a_private_address_is_refused(web: Web) -> None:
    fetcher = GuardedFetcher(web.rules(), resolver=FickleDNS("10.1.2.3"))
    with pytest.raises(Unreachable, match=r"crl\.example\.test is not asked: it leads to 10\.1\.2\.3") as caught:
        await fetcher.fetch(web.url("/a", host="crl.example.test"), bounds=BOUNDS)
    assert caught.value.phase == "guard"


async def test_a_name_that_changes_its_address_between_two_looks_gains_nothing(web: Web) -> None:
    """The address of the second look-up, if there ever were one, is the metadata service's: nobody connects there."""
    web.say("/a", b"abc")
    dns = FickleDNS("127.0.0.1", "169.254.169.254")
    found = await GuardedFetcher(web.rules(), resolver=dns).fetch(web.url("/a", host="x.example.test"), bounds=BOUNDS)
    assert (found.body, dns.asked) == (b"abc", 1)


async def test_a_redirect_to_the_same_name_is_looked_up_and_checked_again(web: Web) -> None:
    url = web.redirect("/a", web.url("/b", host="x.example.test")).replace("127.0.0.1", "x.example.test")
    web.say("/b", b"the secret")
    dns = FickleDNS("127.0.0.1", "169.254.169.254")
    with pytest.raises(Unreachable, match=r"169\.254\.169\.254") as caught:
        await GuardedFetcher(web.rules(), resolver=dns).fetch(url, bounds=BOUNDS)
    assert (caught.value.phase, dns.asked, len(web.requests)) == ("guard", 2, 1)


async def test_a_body_that_says_that_it_is_too_big_is_not_read(web: Web) -> None:
    web.answers["/a"] = _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n")
    with pytest.raises(Unreachable, match="more than 100000 bytes"):
        await fetch(web, web.url("/a"))


async def test_an_endless_body_is_cut_off(web: Web) -> None:
    sent: int = 0

    async def answer(writer: asyncio.StreamWriter, _web: Web) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    web.answers["/a"] = answer
    with pytest.raises(Unreachable, match="more than 100000 bytes"):
        await fetch(web, web.url("/a"))
    assert sent < 50_000_000  # what fits into the sockets' buffers, no more


async def test_a_dripping_body_is_given_up_long_before_the_whole_time_is_over(web: Web) -> None:
    async def answer(writer: asyncio.StreamWriter, _: Web) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n")
        for _piece in range(50000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    web.answers["/a"] = answer
    with pytest.raises(Unreachable, match=r"sent less than 8192 bytes in 0\.2 s"):
        await fetch(web, web.url("/a"), bounds=Bounds(most_bytes=100_000, seconds=600.0, window_seconds=0.2))


async def test_a_server_that_says_nothing_is_given_up(web: Web) -> None:
    async def answer(_writer: asyncio.StreamWriter, _: Web) -> None:
        await asyncio.Event().wait()

    web.answers["/a"] = answer
    with pytest.raises(Unreachable, match="fell silent"):
        await fetch(web, web.url("/a"), bounds=Bounds(most_bytes=10, seconds=600.0, window_seconds=0.1))
    with pytest.raises(Unreachable, match=r"within 0.1 s"):
        await fetch(web, web.url("/a"), bounds=Bounds(most_bytes=10, seconds=0.1, window_seconds=600.0))


async def test_a_head_that_never_ends_is_given_up(web: Web) -> None:
    async def answer(writer: asyncio.StreamWriter, _: Web) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: and more\r\n")
            await writer.drain()

    web.answers["/a"] = answer
    with pytest.raises(Unreachable) as caught:
        await fetch(web, web.url("/a"))
    assert caught.value.phase == "read"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-gzip, identity"])
async def test_a_compressed_answer_is_refused_and_never_unpacked(web: Web, encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < BOUNDS.most_bytes
    with pytest.raises(Unreachable, match="compressed its answer"):
        await fetch(web, web.say("/a", bomb, headers=[f"Content-Encoding: {encoding}"]))


async def test_a_body_that_is_cut_off_is_no_answer(web: Web) -> None:
    web.answers["/a"] = _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    with pytest.raises(Unreachable, match="broke off"):
        await fetch(web, web.url("/a"))


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 10_000])
async def test_what_is_no_http_is_no_answer(web: Web, answer: bytes) -> None:
    web.answers["/a"] = _raw(answer)
    with pytest.raises(Unreachable) as caught:
        await fetch(web, web.url("/a"))
    assert caught.value.phase == "read"
    assert caught.value.message.isprintable()


async def test_a_port_where_nobody_listens_and_a_server_without_tls_have_their_own_phases(web: Web) -> None:
    with pytest.raises(Unreachable) as caught:
        await fetch(web, web.url("/a").replace("http", "https"))
    assert caught.value.phase == "TLS"
    async with run_web() as gone:
        url = gone.url("/a")
    with pytest.raises(Unreachable) as caught:
        await GuardedFetcher(gone.rules()).fetch(url, bounds=BOUNDS)
    assert caught.value.phase == "connect"


async def test_proxies_of_the_environment_are_not_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert (await fetch(web, web.say("/a", b"abc"))).body == b"abc"


def test_the_settings_say_what_is_allowed() -> None:
    rules = rules_from(OutboundSettings(allow=("10.0.0.0/8", "fd00::/8"), ports=(8080,)))
    assert rules.ports == {80, 443, 8080}
    assert rules.permits("10.1.2.3")
    assert rules.permits("fd00::1")
    assert not rules.permits("127.0.0.1")


@pytest.mark.parametrize("allow", ["10.0.0.1/8", "private", "", "10.0.0.0/33"])
def test_a_network_that_is_none_is_refused_at_the_start(allow: str) -> None:
    with pytest.raises(ValidationError, match="is not a network"):
        OutboundSettings(allow=(allow,))


def _raw(content: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter, _: Web) -> None:
        writer.write(content)

    return answer

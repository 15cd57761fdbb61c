"""What endpoints do wrong, and what becomes of it."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from certorbit.errors import (
    BadInput,
    CredentialsRefused,
    RetryRule,
    TargetFull,
    TargetGone,
    TargetRefused,
    Throttled,
    Unreachable,
)
from certorbit.ports.target import Grade, Target
from certorbit.targets.webhook import make
from certorbit.targets.webhook.endpoint import LARGEST_ANSWER
from make import make_certificate, make_key, pem, write_key
from targets.file_parts import bundle_of, free_port, key_of, leaf_of, make_parts
from targets.webhook_bench import make_receiver, make_settings
from targets.webhook_receiver import Receiver, answering, dripping

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = key_of("hook", "edge", 443)


class QuickClock:
    """A clock that waits for nothing and says what it was to wait for."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Hook:
    def __init__(self, receiver: Receiver, stack: AsyncExitStack) -> None:
        self.receiver = receiver
        self.clock = QuickClock()
        self._stack = stack
        self.target = self.make(receiver.url)

    def make(self, url: str, **changes: Any) -> Target:
        target = make(make_settings(url, **changes), make_parts(self.clock))
        self._stack.push_async_callback(target.close)
        return target


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with AsyncExitStack() as stack:
        receiver = make_receiver()
        receiver.now = NOW.timestamp
        await receiver.start(stack)
        yield Hook(receiver, stack)


async def install(target: Target) -> None:
    await target.install(bundle_of("www"), scope="edge-443", present=None)


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(hook: Hook, status: int) -> None:
    hook.receiver.faults = [answering(status), answering(status)]
    await install(hook.target)
    assert hook.receiver.served(("edge", 443), "www.example.com") == ""
    assert set(hook.receiver.copies) == {"edge-443/prod/www"}
    assert len(hook.clock.slept) == 2


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, TargetRefused, "answers 400 'sorry'"),
        (401, CredentialsRefused, "checks the secret and the clock"),
        (403, CredentialsRefused, "answers 403"),
        (404, TargetGone, "answers 404"),
        (409, TargetRefused, "answers 409"),
        (507, TargetFull, "answers 507"),
        (302, TargetRefused, "answers 302"),
    ],
)
async def test_what_will_not_pass_is_told_at_once(hook: Hook, status: int, error: type, says: str) -> None:
    hook.receiver.faults = [answering(status, b"sorry", Location="http://127.0.0.1:1/")]
    with pytest.raises(error, match=says):
        await install(hook.target)
    assert hook.clock.slept == []
    assert hook.receiver.copies == {}


async def test_an_endpoint_that_stays_broken_is_unreachable_after_three_tries(hook: Hook) -> None:
    hook.receiver.faults = [answering(500)] * 9
    with pytest.raises(Unreachable, match="answers 500") as caught:
        await install(hook.target)
    assert caught.value.was_sent
    assert len(hook.receiver.faults) == 6


async def test_nobody_there(hook: Hook) -> None:
    with pytest.raises(Unreachable, match="doesn't answer") as caught:
        await install(hook.make(f"http://127.0.0.1:{free_port()}/hook"))
    assert caught.value.phase == "connect"
    assert not caught.value.was_sent


async def test_throttled_for_a_moment_is_waited_for(hook: Hook) -> None:
    hook.receiver.faults = [answering(429, Retry_After="1")]
    await install(hook.target)
    assert hook.receiver.copies


async def test_throttled_for_long_says_until_when(hook: Hook) -> None:
    hook.receiver.faults = [answering(429, Retry_After="600")]
    with pytest.raises(Throttled) as caught:
        await install(hook.target)
    assert caught.value.retry.rule is RetryRule.AT
    assert caught.value.retry.at == NOW + timedelta(seconds=600)


@pytest.mark.parametrize("after", ["", "soon", "-5", "9" * 50, "²"])
async def test_throttled_without_a_usable_time_is_throttled_after_the_tries(hook: Hook, after: str) -> None:
    headers = {"Retry_After": after.encode("utf-8").decode("latin-1")} if after else {}
    hook.receiver.faults = [answering(429, **headers)] * 3
    with pytest.raises(Throttled):
        await install(hook.target)
    assert hook.receiver.faults == []


async def test_a_huge_answer_is_not_read_to_its_end(hook: Hook) -> None:
    hook.receiver.faults = [answering(200, b" " * (LARGEST_ANSWER + 1))]
    with pytest.raises(TargetRefused, match="larger than"):
        await hook.target.list_copies()


async def test_a_packed_answer_is_not_unpacked(hook: Hook) -> None:
    hook.receiver.faults = [answering(200, gzip.compress(b'{"copies": []}'), Content_Encoding="gzip")]
    with pytest.raises(TargetRefused, match=r"not what docs/targets/webhook\.md asks for"):
        await hook.target.list_copies()


async def test_a_slow_answer_ends_at_the_time_limit(hook: Hook) -> None:
    ended = asyncio.Event()
    hook.receiver.faults = [dripping(ended)] * 3
    target = hook.make(hook.receiver.url, timeout_seconds=0.2)
    try:
        with pytest.raises(Unreachable, match="TimeoutError"):
            await target.list_copies()
    finally:
        ended.set()
    assert hook.receiver.faults == []


WRONG = {
    "no json": b"<html>",
    "empty": b"",
    "a list": b"[]",
    "a member too much": b'{"handle": "a", "link": "b", "more": 1}',
    "a member missing": b'{"handle": "a"}',
    "another type": b'{"handle": 1, "link": "b"}',
    "an empty handle": b'{"handle": "", "link": "b"}',
    "a handle with a line end": b'{"handle": "a\\nb", "link": "b"}',
    "a handle that is too long": b'{"handle": "%s", "link": "b"}' % (b"a" * 2000),
    "nested too deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG.keys())
async def test_an_answer_to_install_in_another_form_is_refused(hook: Hook, content: bytes) -> None:
    hook.receiver.faults = [answering(200, content)]
    with pytest.raises(TargetRefused, match=r"not what docs/targets/webhook\.md asks for"):
        await install(hook.target)
    assert hook.clock.slept == []


@pytest.mark.parametrize(
    "answer",
    [
        {"listener": "mail", "port": 993, "default": "", "certificates": []},
        {"listener": "edge", "port": 443, "default": "a", "certificates": ["a"]},
        {"listener": "edge", "port": 443, "default": "", "certificates": ["a", "a"]},
        {"listener": "edge", "port": "443", "default": "", "certificates": []},
    ],
)
async def test_an_answer_to_look_that_contradicts_itself_is_refused(hook: Hook, answer: dict[str, Any]) -> None:
    hook.receiver.faults = [answering(200, json.dumps(answer).encode())]
    with pytest.raises(TargetRefused):
        await hook.target.look(KEY)


async def test_listeners_that_nobody_asked_for_are_refused(hook: Hook) -> None:
    other = {"listener": "other", "port": 1, "default": "", "certificates": []}
    hook.receiver.faults = [answering(200, json.dumps({"listeners": [other]}).encode())]
    with pytest.raises(TargetRefused, match="nobody asked for"):
        await hook.target.discover()


async def test_copies_that_are_listed_twice_or_without_a_fingerprint_are_refused(hook: Hook) -> None:
    for copies in ([{"handle": "a", "fingerprint": ""}] * 2, [{"handle": "a", "fingerprint": "AB"}]):
        hook.receiver.faults = [answering(200, json.dumps({"copies": copies}).encode())]
        with pytest.raises(TargetRefused):
            await hook.target.list_copies()


async def test_an_endpoint_that_repeats_the_key_does_not_get_it_into_a_message(hook: Hook) -> None:
    key = bundle_of("www").key.reveal()
    body = "".join(key.splitlines()[1:-1])
    for content in (key, body, json.dumps({"handle": body, "link": 1}), json.dumps({body: 1})):
        for status in (200, 400, 500):
            hook.receiver.faults = [answering(status, content.encode())] * 3
            with pytest.raises((TargetRefused, Unreachable)) as caught:
                await install(hook.target)
            assert body[:24] not in caught.value.message
            assert key.splitlines()[1][:24] not in caught.value.message
            hook.receiver.faults = []


async def test_a_wrong_secret_or_clock_is_refused_by_the_receiver(hook: Hook) -> None:
    with pytest.raises(CredentialsRefused, match="the signature is wrong"):
        await install(hook.make(hook.receiver.url, secret="another-secret-of-the-tests"))
    hook.receiver.now = lambda: NOW.timestamp() + 301
    with pytest.raises(CredentialsRefused, match="timestamp"):
        await install(hook.target)
    findings = await hook.target.check()
    assert [finding.grade for finding in findings] == [Grade.FAILED]


async def test_a_full_listener_is_told_before_the_endpoint_is_asked_to_attach(hook: Hook) -> None:
    tables = [{"name": "edge", "port": 443, "max_certificates": 1}]
    target = hook.make(hook.receiver.url, listeners=tables)
    first = await target.install(bundle_of("www"), scope="edge-443", present=None)
    second = await target.install(bundle_of("shop"), scope="edge-443", present=None)
    await target.attach(KEY, first, instead_of="")
    with pytest.raises(TargetFull):
        await target.attach(KEY, second, instead_of="")
    await target.attach(KEY, first, instead_of="")  # it is there already
    await target.attach(KEY, second, instead_of=first.handle)
    assert hook.receiver.asked.count("attach") == 3
    assert hook.receiver.served(("edge", 443), "shop.example.com") == leaf_of("shop")


async def test_a_listener_that_the_endpoint_does_not_know_is_found_by_the_check(hook: Hook) -> None:
    del hook.receiver.listeners["mail", 993]
    findings = await hook.target.check()
    assert [(finding.what, finding.grade) for finding in findings] == [
        ("reach", Grade.OK),
        ("read", Grade.FAILED),
        ("read", Grade.OK),
    ]
    with pytest.raises(TargetGone):
        await hook.target.look(key_of("hook", "mail", 993))


async def test_over_https_only_the_roots_of_the_settings_count(tmp_path: Path) -> None:
    key = make_key(index=7)
    certificate = make_certificate(key=key, names=["127.0.0.1"], is_ca=True, now=datetime.now(UTC))
    (tmp_path / "server.pem").write_text(pem(certificate) + write_key(key))
    (tmp_path / "roots.pem").write_text(pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    async with AsyncExitStack() as stack:
        receiver = make_receiver()
        receiver.now = NOW.timestamp
        await receiver.start(stack, context=context)
        hook = Hook(receiver, stack)
        with pytest.raises(Unreachable, match="ClientConnectorCertificateError"):
            await hook.target.list_copies()
        assert await hook.make(receiver.url, ca_bundle=str(tmp_path / "roots.pem")).list_copies() == {}
        with pytest.raises(BadInput, match="can be read"):
            hook.make(receiver.url, ca_bundle=str(tmp_path / "nothing.pem"))


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "http://10.0.0.1/",
        "http://127.0.0.1.example.com/",
        "http://user@127.0.0.1/",
        "ftp://127.0.0.1/",
        "https:///x",
        "https://host:0/",
        "https://host:x/",
    ],
)
def test_private_keys_go_nowhere_else(url: str) -> None:
    with pytest.raises(ValidationError):
        make_settings(url)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/x?y=1", "http://127.0.0.1:8080/", "http://[::1]:1/", "http://localhost/"]
)
def test_https_and_this_machine_are_fine(url: str) -> None:
    assert make_settings(url).url == url

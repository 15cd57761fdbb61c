"""What Google's APIs answer on bad days, and what becomes of it."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from certorbit.errors import (
    CredentialsRefused,
    RetryRule,
    TargetFull,
    TargetRefused,
    Throttled,
    Unreachable,
)
from certorbit.model.balancer import Copy
from certorbit.ports.target import Grade, Target
from fakes.clock import FakeClock
from make import make_key, write_key
from targets.gcp_bench import listener_key, make_google_target, open_google
from targets.gcp_stand_in import Fault, GoogleStandIn, Refusal, hang
from targets.target_bench import make_bundle

WEB = listener_key("web")
CERTIFICATES = "/compute/v1/projects/example-project/global/sslCertificates"


@pytest.fixture
async def google() -> AsyncIterator[GoogleStandIn]:
    async with AsyncExitStack() as stack:
        yield await open_google(stack)


@pytest.fixture
async def target(google: GoogleStandIn) -> AsyncIterator[Target]:
    made = make_google_target(google)
    yield made
    await made.close()


async def install(target: Target) -> Copy:
    return await target.install(make_bundle("www"), scope="global", present=None)


async def test_a_missing_right_is_named(target: Target, google: GoogleStandIn) -> None:
    words = "Required 'compute.sslCertificates.create' permission for 'projects/example-project'"
    google.fail("POST", CERTIFICATES, 403, "forbidden", message=words)
    with pytest.raises(CredentialsRefused, match=r"compute\.sslCertificates\.create"):
        await install(target)


async def test_a_rate_is_waited_out_as_long_as_google_says(google: GoogleStandIn) -> None:
    clock = FakeClock()
    target = make_google_target(google, clock=clock)
    google.fail("POST", CERTIFICATES, 429, "RATE_LIMIT_EXCEEDED", headers={"Retry-After": "90"})
    with pytest.raises(Throttled) as caught:
        await install(target)
    assert caught.value.retry.rule is RetryRule.AT
    assert caught.value.retry.at == clock.now() + timedelta(seconds=90)
    await target.close()


@pytest.mark.parametrize(("status", "reason"), [(429, "x"), (403, "rateLimitExceeded"), (503, "backendError")])
async def test_what_passes_is_tried_again(target: Target, google: GoogleStandIn, status: int, reason: str) -> None:
    google.fail("GET", CERTIFICATES, status, reason, times=2)
    await install(target)


@pytest.mark.parametrize(("status", "error"), [(429, Throttled), (503, Unreachable)])
async def test_what_doesnt_pass_is_given_up(
    target: Target, google: GoogleStandIn, status: int, error: type[Exception]
) -> None:
    google.fail("GET", CERTIFICATES, status, "x", times=9)
    with pytest.raises(error):
        await install(target)
    assert len(google.faults) == 6


async def test_a_spent_quota_is_full(target: Target, google: GoogleStandIn) -> None:
    words = "Quota 'SSL_CERTIFICATES' exceeded. Limit: 10.0 globally."
    google.fail("POST", CERTIFICATES, 403, "quotaExceeded", message=words)
    with pytest.raises(TargetFull, match="SSL_CERTIFICATES"):
        await install(target)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Refusal(400, "SSL_CERTIFICATE_BAD", "The certificate is bad"), TargetRefused),
        (Refusal(403, "QUOTA_EXCEEDED", "Quota exceeded"), TargetFull),
        (Refusal(500, "INTERNAL_ERROR", "Internal error"), Unreachable),
    ],
)
async def test_an_operation_that_ends_with_an_error_is_reported(
    target: Target, google: GoogleStandIn, failure: Refusal, error: type[Exception]
) -> None:
    google.polls = 3
    google.failing = [failure]
    with pytest.raises(error, match=failure.message):
        await install(target)
    assert await target.list_copies() == {}


async def test_an_operation_that_never_ends_is_given_up(target: Target, google: GoogleStandIn) -> None:
    google.polls = 10**6
    with pytest.raises(Unreachable, match="isn't done after 300 s"):
        await install(target)


async def test_a_lost_answer_makes_no_second_certificate(target: Target, google: GoogleStandIn) -> None:
    google.fail("POST", CERTIFICATES, 502, "x", is_done=True)
    first = await install(target)
    assert await install(target) == first
    assert set(await target.list_copies()) == {first.handle}


async def test_googles_words_never_show_a_key(target: Target, google: GoogleStandIn) -> None:
    key = make_bundle("www").key.reveal()
    google.fail("POST", CERTIFICATES, 400, "invalid", message=f"Invalid value for field 'privateKey': '{key}'")
    with capture_logs() as logs, pytest.raises(TargetRefused, match="Invalid value for field") as caught:
        await install(target)
    assert key.splitlines()[1] not in str(caught.value) + json.dumps(logs)
    assert "BEGIN" not in str(caught.value)


async def test_an_answer_that_never_comes_is_given_up(google: GoogleStandIn) -> None:
    target = make_google_target(google, timeout_seconds=0.05)
    google.faults += [Fault("GET", CERTIFICATES, hang)] * 3
    with pytest.raises(Unreachable, match="didn't answer within"):
        await install(target)
    assert not google.faults
    await target.close()


async def test_an_answer_without_end_is_given_up(target: Target, google: GoogleStandIn) -> None:
    async def pour(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(40):
            await answer.write(b" " * 2**20)
        return answer

    google.faults += [Fault("GET", CERTIFICATES, pour)] * 3
    with pytest.raises(Unreachable, match="16 MiB"):
        await target.list_copies()


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"[" * 100_000, b""])
async def test_an_answer_that_is_no_object_is_no_answer(target: Target, google: GoogleStandIn, body: bytes) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    google.faults += [Fault("GET", CERTIFICATES, answer)] * 3
    with pytest.raises(Unreachable, match="no JSON object"):
        await target.list_copies()


async def test_nobody_there_is_unreachable() -> None:
    async with AsyncExitStack() as stack:
        google = await open_google(stack)
    target = make_google_target(google)
    with pytest.raises(Unreachable) as caught:
        await target.discover()
    assert not caught.value.was_sent
    findings = {finding.what: finding.grade for finding in await target.check()}
    assert findings["reach"] is Grade.FAILED
    await target.close()


async def test_a_fixed_token_that_is_refused_is_refused(google: GoogleStandIn) -> None:
    target = make_google_target(google, token="another")
    with pytest.raises(CredentialsRefused, match="invalid authentication"):
        await target.discover()
    await target.close()


def write_account(folder: Path, url: str) -> Path:
    """Write a service account's key file as Google gives it out."""
    path = folder / "account.json"
    account = {
        "type": "service_account",
        "client_email": "certorbit@example-project.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": write_key(make_key("rsa-2048")),
        "token_uri": f"{url}/token",
    }
    path.write_text(json.dumps(account))
    return path


async def test_a_token_that_ran_out_is_renewed_once(google: GoogleStandIn, tmp_path: Path) -> None:
    target = make_google_target(google, token=None, credentials_file=write_account(tmp_path, google.url))
    await target.discover()
    assert len(google.grants) == 1
    google.tokens.clear()
    await target.discover()
    assert len(google.grants) == 2
    await target.close()


async def test_a_key_file_that_cant_be_used_is_named(google: GoogleStandIn, tmp_path: Path) -> None:
    for text in ("{", '{"type": "service_account"}', None):
        path = tmp_path / "broken.json"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        target = make_google_target(google, token=None, credentials_file=path)
        with pytest.raises(CredentialsRefused, match=r"broken\.json"):
            await target.discover()
        await target.close()


async def test_a_token_server_that_refuses_or_is_away_is_told_apart(google: GoogleStandIn, tmp_path: Path) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "invalid_grant", "error_description": "Account deleted"}, status=400)

    google.faults.append(Fault("POST", "/token", refuse))
    target = make_google_target(google, token=None, credentials_file=write_account(tmp_path, google.url))
    with pytest.raises(CredentialsRefused, match="invalid_grant"):
        await target.discover()
    await target.close()
    path = write_account(tmp_path, "http://127.0.0.1:1")
    away = make_google_target(google, token=None, credentials_file=path)
    with pytest.raises(Unreachable, match="token server"):
        await away.discover()
    await away.close()

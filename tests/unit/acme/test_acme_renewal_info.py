"""ARI: what the CA suggests is read with distrust, and nothing that goes wrong is ever an exception."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certorbit.acme.issuer import ACMEIssuer
from certorbit.model.renewal import LONG_TERM, PASSING_LADDER, RenewalInfo
from certorbit.pki.ari import make_cert_id
from fakes.clock import START, FakeClock
from fakes.fake_ca import HANG_UP, FakeCA, Say, problem
from fakes.fake_chains import make_csr
from make import make_chain

WINDOW = {"start": "2026-12-24T00:00:00Z", "end": "2026-12-26T00:00:00Z"}
OPENS, CLOSES = datetime(2026, 12, 24, tzinfo=UTC), datetime(2026, 12, 26, tzinfo=UTC)
MIDDLE = datetime(2026, 12, 25, tzinfo=UTC)  # the fake chance's choice
LATER = {"start": "2027-01-10T00:00:00Z", "end": "2027-01-12T00:00:00Z"}


@pytest.fixture
def chain_pem(ca: FakeCA) -> str:
    return ca.chains[0].issue(make_csr("a.example")).decode()


@pytest.fixture
def cert_id(ca: FakeCA, chain_pem: str) -> str:
    """The certificate's CertID; the CA suggests WINDOW for it."""
    made = make_cert_id(chain_pem)
    assert made is not None
    ca.offer_renewal_info(made, **WINDOW)
    return made


@pytest.fixture
def known() -> RenewalInfo:
    """What was stored at an earlier look."""
    day = timedelta(days=1)
    return RenewalInfo(
        start=OPENS,
        end=CLOSES,
        explanation_url="https://ca.example/why",
        chosen_at=OPENS + timedelta(hours=1),
        checked_at=START - day,
        next_check_at=START,
        problem="",
        seen_at=START - 9 * day,
    )


async def ask(issuer: ACMEIssuer, chain_pem: str, previous: RenewalInfo | None = None) -> RenewalInfo:
    info = await issuer.renewal_info(chain_pem, previous=previous)
    assert info is not None
    return info


async def test_the_window_is_asked_for_by_cert_id_and_unsigned(
    ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str
) -> None:
    info = await ask(issuer, chain_pem)
    assert (info.start, info.end, info.chosen_at, info.problem) == (OPENS, CLOSES, MIDDLE, "")
    assert (info.checked_at, info.seen_at, info.next_check_at) == (START, START, START + timedelta(hours=6))
    assert ca.visits == ["directory", "renewal-info"], "no nonce, no account"


async def test_a_slash_at_the_end_of_the_door_is_not_doubled(
    ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str
) -> None:
    ca.more_doors["renewalInfo"] += "/"
    assert (await ask(issuer, chain_pem)).problem == ""


async def test_a_ca_without_the_door_has_no_renewal_information(ca: FakeCA, issuer: ACMEIssuer, chain_pem: str) -> None:
    assert await issuer.renewal_info(chain_pem, previous=None) is None
    assert ca.count("renewal-info") == 0


async def test_a_certificate_without_cert_id_is_not_asked_about(ca: FakeCA, issuer: ACMEIssuer, cert_id: str) -> None:
    assert await issuer.renewal_info(make_chain().chain_pem, previous=None) is None
    assert ca.count("renewal-info") == 0


async def test_an_unchanged_window_keeps_its_instant(
    issuer: ACMEIssuer, chain_pem: str, cert_id: str, known: RenewalInfo
) -> None:
    info = await ask(issuer, chain_pem, known)
    assert (info.chosen_at, info.seen_at, info.checked_at) == (known.chosen_at, known.seen_at, START)
    assert info.explanation_url == "", "what the CA says now counts"


async def test_a_changed_window_gets_a_new_instant(
    ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str, known: RenewalInfo
) -> None:
    ca.offer_renewal_info(cert_id, **LATER, explanationURL="https://ca.example/incident")
    info = await ask(issuer, chain_pem, known)
    assert info.chosen_at == datetime(2027, 1, 11, tzinfo=UTC)
    assert (info.seen_at, info.explanation_url) == (START, "https://ca.example/incident")


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        pytest.param("7200", timedelta(hours=2), id="ok/seconds"),
        pytest.param("Tue, 24 Nov 2026 13:00:00 GMT", timedelta(hours=1), id="ok/a date"),
        pytest.param("5", timedelta(minutes=1), id="ok/too soon is a minute"),
        pytest.param("Tue, 24 Nov 2020 13:00:00 GMT", timedelta(minutes=1), id="ok/the past is a minute"),
        pytest.param("604800", timedelta(days=1), id="ok/too late is a day"),
        pytest.param("9" * 30, timedelta(days=1), id="ok/absurd is a day"),
        pytest.param(None, LONG_TERM * 1.05, id="ok/none is six hours with jitter"),
        pytest.param("soon", LONG_TERM * 1.05, id="ok/unreadable is none"),
    ],
)
async def test_the_next_check_is_when_the_ca_wishes_within_bounds(
    ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str, retry_after: str | None, wait: timedelta
) -> None:
    ca.retry_after = retry_after
    assert (await ask(issuer, chain_pem)).next_check_at == START + wait


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(("2026-12-24T01:00:00+01:00", "2026-12-25T19:00:00-05:00"), id="ok/offsets"),
        pytest.param(("2026-12-24t00:00:00z", "2026-12-26T00:00:00.000000000Z"), id="ok/small letters, nanoseconds"),
    ],
)
async def test_times_of_rfc_3339_are_read(
    ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str, times: tuple[str, str]
) -> None:
    ca.offer_renewal_info(cert_id, start=times[0], end=times[1])
    info = await ask(issuer, chain_pem)
    assert (info.start, info.end) == (OPENS, CLOSES)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="refused/empty"),
        pytest.param(b"<html>", id="refused/a proxy's page"),
        pytest.param([], id="refused/a list"),
        pytest.param({}, id="refused/no window"),
        pytest.param({"suggestedWindow": [1]}, id="refused/a window that is a list"),
        pytest.param({"suggestedWindow": {"start": WINDOW["start"]}}, id="refused/no end"),
        pytest.param({"suggestedWindow": {"start": 1, "end": 2}}, id="refused/numbers"),
        pytest.param({"suggestedWindow": {"start": WINDOW["end"], "end": WINDOW["start"]}}, id="refused/reversed"),
        pytest.param({"suggestedWindow": {"start": WINDOW["end"], "end": WINDOW["end"]}}, id="refused/empty window"),
        pytest.param({"suggestedWindow": {**WINDOW, "end": "2026-12-26"}}, id="refused/a day"),
        pytest.param({"suggestedWindow": {**WINDOW, "end": "2026-12-26T00:00:00"}}, id="refused/no offset"),
        pytest.param({"suggestedWindow": {**WINDOW, "end": "2026-13-26T00:00:00Z"}}, id="refused/13th month"),
        pytest.param({"suggestedWindow": {**WINDOW, "end": "2026-12-26T00:00:00+99:00"}}, id="refused/offset"),
        pytest.param({"suggestedWindow": {**WINDOW, "end": "9999-12-31T23:00:00-09:00"}}, id="refused/year 10000"),
        pytest.param({"suggestedWindow": {**WINDOW, "start": "0001-01-01T00:00:00+09:00"}}, id="refused/year 0"),
        pytest.param({"suggestedWindow": {**WINDOW, "end": "٢٠٢٦-12-26T00:00:00Z"}}, id="refused/other digits"),
        pytest.param(b" " * 2_000_000, id="refused/too long"),
    ],
)
async def test_an_answer_that_can_not_be_used_counts_as_none(
    ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str, known: RenewalInfo, body: object
) -> None:
    ca.script("renewal-info", Say(200, body, {"Retry-After": "60"}), Say(200, body))
    info = await ask(issuer, chain_pem)
    assert (info.start, info.end, info.chosen_at) == (None, None, None)
    assert "fake" in info.problem
    assert info.next_check_at == START + LONG_TERM * 1.05
    kept = await ask(issuer, chain_pem, known)
    assert (kept.start, kept.chosen_at, kept.seen_at) == (known.start, known.chosen_at, known.seen_at)
    assert (kept.problem != "", kept.failures) == (True, 1)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        pytest.param("https://ca.example/why?id=1#now", True, id="ok/https"),
        pytest.param("http://ca.example", True, id="ok/http"),
        pytest.param("javascript:alert(1)", False, id="refused/javascript"),
        pytest.param("https://ca.example/\u202e", False, id="refused/not ASCII"),
        pytest.param('https://ca.example/"onclick="', False, id="refused/quotes"),
        pytest.param("https://user:secret@ca.example/", False, id="refused/credentials"),
        pytest.param("https://ca.example/" + "a" * 500, False, id="refused/long"),
        pytest.param("//ca.example/", False, id="refused/no scheme"),
        pytest.param("https://ca.example/\n", False, id="refused/line end"),
        pytest.param(["https://ca.example/"], False, id="refused/a list"),
        pytest.param(None, False, id="refused/null"),
    ],
)
async def test_the_explanation_is_kept_only_if_it_can_be_shown_as_a_link(
    *, ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str, url: Any, kept: bool
) -> None:
    ca.offer_renewal_info(cert_id, **WINDOW, explanationURL=url)
    info = await ask(issuer, chain_pem)
    assert info.explanation_url == (url if kept else "")
    assert info.start == OPENS, "an unusable explanation is no reason to distrust the window"


TIRED = Say(503, b"", {"Retry-After": "120"})


@pytest.mark.parametrize(
    ("answers", "wait", "says"),
    [
        pytest.param([problem(404, "malformed", "unknown")], LONG_TERM * 1.05, "unknown", id="refused/404"),
        pytest.param([Say(302, b"", {"Location": "/x"})], LONG_TERM * 1.05, "redirect", id="refused/redirect"),
        pytest.param([Say(503)] * 4, PASSING_LADDER[0] * 1.1, "503", id="refused/5xx backs off"),
        pytest.param([HANG_UP] * 8, PASSING_LADDER[0] * 1.1, "can't be reached", id="refused/hung up backs off"),
        pytest.param([TIRED], timedelta(minutes=2), "503", id="refused/5xx with Retry-After"),
        pytest.param([problem(429, "rateLimited")] * 4, LONG_TERM * 1.05, "rateLimited", id="refused/429"),
        pytest.param(
            [Say(429, b"", {"Retry-After": "7200"})], timedelta(hours=2), "too many", id="refused/429, Retry-After"
        ),
    ],
)
async def test_a_failure_is_noted_with_the_time_of_the_next_check(
    *,
    ca: FakeCA,
    issuer: ACMEIssuer,
    clock: FakeClock,
    chain_pem: str,
    cert_id: str,
    known: RenewalInfo,
    answers: list[Say],
    wait: timedelta,
    says: str,
) -> None:
    ca.script("renewal-info", *answers)
    info = await ask(issuer, chain_pem, known)
    assert info.next_check_at == clock.now() + wait
    assert says in info.problem
    assert (info.chosen_at, info.failures) == (known.chosen_at, 1)


async def test_temporary_failures_back_off_and_then_count_as_lasting_ones(
    ca: FakeCA, issuer: ACMEIssuer, clock: FakeClock, chain_pem: str, cert_id: str
) -> None:
    info: RenewalInfo | None = None
    waits: list[timedelta] = []
    for _ in range(8):
        ca.script("renewal-info", *[Say(500)] * 4)
        info = await ask(issuer, chain_pem, info)
        waits.append(info.next_check_at - clock.now())
    assert waits == [step * 1.1 for step in PASSING_LADDER] + [LONG_TERM * 1.05] * 2
    info = await ask(issuer, chain_pem, info)
    assert (info.failures, info.problem, info.chosen_at) == (0, "", MIDDLE)


async def test_a_refused_connection_is_a_lasting_failure(
    make_issuer: Any, chain_pem: str, clock: FakeClock, unused_tcp_port: int
) -> None:
    info = await ask(make_issuer(f"http://127.0.0.1:{unused_tcp_port}/directory"), chain_pem)
    assert info.next_check_at == clock.now() + LONG_TERM * 1.05
    assert "can't be reached" in info.problem


async def test_a_door_in_somebody_elses_network_is_not_asked(
    ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str
) -> None:
    ca.more_doors["renewalInfo"] = "http://169.254.169.254/latest"
    info = await ask(issuer, chain_pem)
    assert "169.254.169.254" in info.problem
    assert info.chosen_at is None


async def test_a_damaged_chain_is_a_noted_failure_too(issuer: ACMEIssuer, cert_id: str) -> None:
    info = await ask(issuer, "no certificate")
    assert "no certificate found" in info.problem


async def test_only_cancellation_comes_through(ca: FakeCA, issuer: ACMEIssuer, chain_pem: str, cert_id: str) -> None:
    task = asyncio.create_task(issuer.renewal_info(chain_pem, previous=None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_clock_of_the_answer_counts_after_slow_tries(
    ca: FakeCA, issuer: ACMEIssuer, clock: FakeClock, chain_pem: str, cert_id: str
) -> None:
    ca.script("renewal-info", Say(503), Say(503))
    info = await ask(issuer, chain_pem)
    assert clock.now() > START
    assert info.next_check_at == clock.now() + timedelta(hours=6)

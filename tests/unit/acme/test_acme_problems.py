"""One function turns an answer into an error: the table."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from certorbit.acme.answer import LONGEST_RETRY_AFTER, Answer, clean
from certorbit.acme.problems import URN, About, ProblemType, error_from, read_problem
from certorbit.errors import (
    BACKOFF,
    NEVER,
    AccountProblem,
    AlreadyReplaced,
    CertorbitError,
    IssuerRefused,
    OrderLost,
    RateLimited,
    Retry,
    Unreachable,
    retry_at,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
IN_A_MINUTE = retry_at(NOW + timedelta(minutes=1))


def make_answer(status: int, body: object = b"", **headers: str) -> Answer:
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Answer("fake", "https://ca.example/order/1", status, CIMultiDictProxy(named), octets)


def doc(kind: str, detail: str = "because", **more: object) -> dict[str, object]:
    return {"type": URN + kind, "detail": detail, **more}


@pytest.mark.parametrize(
    ("answer", "about", "error", "retry"),
    [
        pytest.param(make_answer(429, doc("rateLimited")), About.NEW_ORDER, RateLimited, BACKOFF, id="refused/429"),
        pytest.param(
            make_answer(429, doc("rateLimited"), Retry_After="60"),
            About.NEW_ORDER,
            RateLimited,
            IN_A_MINUTE,
            id="refused/429-seconds",
        ),
        pytest.param(
            make_answer(429, doc("rateLimited"), Retry_After="Tue, 24 Nov 2026 12:01:00 GMT"),
            About.NEW_ORDER,
            RateLimited,
            IN_A_MINUTE,
            id="refused/429-date",
        ),
        pytest.param(
            make_answer(403, doc("rateLimited"), Retry_After="60"),
            About.ORDER,
            RateLimited,
            IN_A_MINUTE,
            id="refused/403",
        ),
        pytest.param(
            make_answer(503, doc("rateLimited"), Retry_After="60"),
            About.ORDER,
            RateLimited,
            IN_A_MINUTE,
            id="refused/503",
        ),
        pytest.param(
            make_answer(429, b"slow down", Retry_After="60"),
            About.NONCE,
            RateLimited,
            IN_A_MINUTE,
            id="refused/429-html",
        ),
        pytest.param(make_answer(429, doc("other")), About.ORDER, RateLimited, BACKOFF, id="refused/429-other-type"),
        pytest.param(
            make_answer(409, doc("alreadyReplaced")), About.REPLACEMENT, AlreadyReplaced, NEVER, id="refused/replaced"
        ),
        pytest.param(
            make_answer(409, doc("malformed")), About.REPLACEMENT, AlreadyReplaced, NEVER, id="refused/409-replacing"
        ),
        pytest.param(make_answer(409, doc("malformed")), About.NEW_ORDER, IssuerRefused, NEVER, id="refused/409"),
        pytest.param(
            make_answer(400, doc("accountDoesNotExist")), About.ORDER, AccountProblem, NEVER, id="refused/no-account"
        ),
        pytest.param(
            make_answer(403, doc("externalAccountRequired")),
            About.NEW_ACCOUNT,
            AccountProblem,
            NEVER,
            id="refused/eab",
        ),
        pytest.param(
            make_answer(403, doc("userActionRequired")), About.NEW_ORDER, AccountProblem, NEVER, id="refused/terms"
        ),
        pytest.param(
            make_answer(403, doc("unauthorized")), About.NEW_ORDER, AccountProblem, NEVER, id="refused/deactivated"
        ),
        pytest.param(
            make_answer(403, doc("unauthorized")), About.FINALISATION, IssuerRefused, NEVER, id="refused/unauthorized"
        ),
        pytest.param(make_answer(404, doc("malformed")), About.ORDER, OrderLost, BACKOFF, id="refused/order-gone"),
        pytest.param(make_answer(404), About.AUTHORIZATION, OrderLost, BACKOFF, id="refused/wordless-404"),
        pytest.param(
            make_answer(403, doc("orderNotReady")), About.FINALISATION, OrderLost, BACKOFF, id="refused/not-ready"
        ),
        pytest.param(make_answer(400, doc("badCSR")), About.FINALISATION, IssuerRefused, NEVER, id="refused/csr"),
        pytest.param(make_answer(400, doc("badNonce")), About.ORDER, IssuerRefused, BACKOFF, id="refused/nonce"),
        pytest.param(
            make_answer(400, doc("serverInternal")), About.ORDER, IssuerRefused, BACKOFF, id="refused/internal-400"
        ),
        pytest.param(make_answer(500, doc("serverInternal")), About.ORDER, Unreachable, BACKOFF, id="silent/500"),
        pytest.param(
            make_answer(503, b"<html>", Retry_After="60"),
            About.ORDER,
            Unreachable,
            IN_A_MINUTE,
            id="silent/503-seconds",
        ),
        pytest.param(make_answer(403, b"<html>no"), About.ORDER, Unreachable, BACKOFF, id="silent/403-html"),
        pytest.param(make_answer(400, [1]), About.ORDER, Unreachable, BACKOFF, id="silent/400-list"),
        pytest.param(make_answer(404), About.DIRECTORY, Unreachable, BACKOFF, id="silent/404-directory"),
        pytest.param(make_answer(302, Location="https://x"), About.ORDER, Unreachable, BACKOFF, id="silent/redirect"),
    ],
)
def test_an_answer_becomes_its_error(answer: Answer, about: About, error: type[CertorbitError], retry: Retry) -> None:
    found = error_from(answer, about=about, now=NOW)
    assert type(found) is error
    assert found.retry == retry


def test_the_message_has_the_words_of_the_ca_and_every_identifier_in_order() -> None:
    subproblems = [
        {**doc("caa", "forbidden"), "identifier": {"type": "dns", "value": "b.example"}},
        {**doc("dns", "no such name"), "identifier": {"type": "dns", "value": "a.example"}},
    ]
    body = doc("rejectedIdentifier", "two are bad", subproblems=subproblems)
    error = error_from(make_answer(403, body), about=About.NEW_ORDER, now=NOW)
    assert isinstance(error, IssuerRefused)
    assert error.message == (
        "The CA fake refused the new order: rejectedIdentifier: two are bad"
        " (a.example: dns: no such name; b.example: caa: forbidden)"
    )
    assert (error.type, error.detail, error.status) == (ProblemType.REJECTED_IDENTIFIER, "two are bad", 403)
    assert list(error.subproblems) == ["a.example", "b.example"]


def test_the_terms_to_agree_to_are_shown() -> None:
    body = doc("userActionRequired", "new terms", instance="https://ca.example/terms")
    error = error_from(make_answer(403, body), about=About.NEW_ORDER, now=NOW)
    assert error.message.endswith("userActionRequired: new terms See https://ca.example/terms")


def test_the_words_of_a_ca_that_is_down_are_kept() -> None:
    error = error_from(make_answer(503, doc("serverInternal", "maintenance")), about=About.ORDER, now=NOW)
    assert error.message == "The CA fake could not serve the order (status 503): serverInternal: maintenance"


@pytest.mark.parametrize(
    "value",
    [
        {"type": 5, "detail": "x"},
        {"detail": ["x"]},
        {"type": URN + "dns", "detail": 1, "subproblems": 7},
        {
            "type": URN + "dns",
            "subproblems": [None, 1, {"identifier": 3}, {"type": "x", "identifier": {"value": {}}}],
        },
        {},
        None,
        "text",
        [],
    ],
)
def test_a_malformed_problem_never_breaks_its_reader(value: object) -> None:
    problem = read_problem(value)
    assert problem is None or isinstance(problem.sentence, str)
    assert isinstance(error_from(make_answer(400, value), about=About.ORDER, now=NOW), CertorbitError)


def test_hostile_text_becomes_one_short_line() -> None:
    text = clean("a\r\n\x1b[31mred\x00" + "x" * 5000)
    assert text.startswith("a [31mred xxx")
    assert len(text) == 1000
    assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", timedelta(0)),
        ("120", timedelta(minutes=2)),
        ("99999999999999999999999", LONGEST_RETRY_AFTER),
        ("999999999", LONGEST_RETRY_AFTER),
        ("Tue, 24 Nov 2026 11:00:00 GMT", timedelta(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Tue, 24 Nov 2026 12:00:30", timedelta(seconds=30)),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_and_bounded(text: str, expected: timedelta | None) -> None:
    assert make_answer(200, Retry_After=text).retry_after(NOW) == expected


def test_links_are_found_by_relation_and_made_absolute() -> None:
    headers = CIMultiDict(
        [
            ("Link", '</next>;rel="next", <https://ca.example/dir>; rel=index'),
            ("Link", '<https://ca.example/c/1>; title="a, b"; rel="alternate up"'),
        ]
    )
    answer = Answer("fake", "https://ca.example/list/1", 200, CIMultiDictProxy(headers), b"")
    assert answer.links("next") == ["https://ca.example/next"]
    assert answer.links("alternate") == ["https://ca.example/c/1"]
    assert answer.links("index") == ["https://ca.example/dir"]
    assert answer.links("none") == []

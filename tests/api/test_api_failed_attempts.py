"""Those who try keys are slowed down; those who have one are not, whoever their neighbours are."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from api.server import API, CERTS, SECRETS, Answer, run_api
from api.shapes import assert_error
from certorbit.api.failed_attempts import FailedAttempts
from certorbit.errors import TooManyFailures
from certorbit.services.api_keys import new_secret
from fakes.clock import FakeClock

MOST = 6  # per minute
KEYS = "/api/certorbit/v1/api-keys"


@pytest.fixture
def slow_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    with run_api(
        tmp_path_factory.mktemp("api"), access={"failures_per_minute": MOST, "trusted_proxies": ["127.0.0.1"]}
    ) as running:
        yield running


def ask(api: API, secret: str, *, address: str = "192.0.2.1") -> Answer:
    headers = {"Authorization": f"Basic {secret}", "X-Forwarded-For": address}
    return api.call("GET", CERTS, key=None, headers=headers)


def fail(api: API, count: int = MOST, *, address: str = "192.0.2.1") -> None:
    for _ in range(count):
        assert_error(ask(api, new_secret(), address=address), 401)


def test_after_too_many_unknown_keys_an_address_has_to_wait(slow_api: API) -> None:
    fail(slow_api)
    answer = ask(slow_api, new_secret())
    assert_error(answer, 429, says="192.0.2.1")
    assert answer.headers["retry-after"] == "10"
    assert "www-authenticate" not in answer.headers
    slow_api.clock.advance(10)
    assert_error(ask(slow_api, new_secret()), 401)
    assert_error(ask(slow_api, new_secret()), 429)
    slow_api.clock.advance(minutes=2)
    fail(slow_api)


def test_other_addresses_go_on_and_one_ipv6_network_is_one_address(slow_api: API) -> None:
    for number in range(MOST):
        fail(slow_api, 1, address=f"2001:db8::{number:x}")
    assert_error(ask(slow_api, new_secret(), address="2001:db8::ffff"), 429)
    fail(slow_api, 1, address="2001:db8:0:1::1")
    fail(slow_api, 1, address="192.0.2.1")


def test_a_good_key_behind_the_same_address_gets_in_at_its_first_request(slow_api: API) -> None:
    fail(slow_api)
    assert ask(slow_api, SECRETS["reader"]).status == 200
    assert_error(ask(slow_api, new_secret()), 429)
    made = slow_api.call("POST", KEYS, document={"name": "made meanwhile"}).json
    slow_api.clock.advance(11)
    fail(slow_api, 1)
    assert ask(slow_api, made["key"]).status == 200


def test_guesses_that_begin_as_a_key_here_does_are_slowed_from_everywhere_but_the_key_goes_on(slow_api: API) -> None:
    good = SECRETS["reader"]
    assert ask(slow_api, good).status == 200
    for number in range(MOST):
        assert_error(ask(slow_api, good[:8] + new_secret()[8:], address=f"192.0.2.{number}"), 401)
    answer = ask(slow_api, good[:8] + new_secret()[8:], address="198.51.100.1")
    assert_error(answer, 429, says="began as this one does")
    slow_api.clock.advance(5)  # it isn't remembered as known any more, only as good
    assert ask(slow_api, good).status == 200


def test_a_key_that_was_good_and_is_revoked_is_slowed_like_any_other(slow_api: API) -> None:
    made = slow_api.call("POST", KEYS, document={"name": "gone"}).json
    assert ask(slow_api, made["key"]).status == 200
    assert slow_api.call("DELETE", f"{KEYS}/{made['id']}").status == 204
    statuses = [ask(slow_api, made["key"]).status for _ in range(MOST + 2)]
    assert statuses == [401] * MOST + [429] * 2


def test_requests_without_a_key_are_no_guesses(slow_api: API) -> None:
    for _ in range(2 * MOST):
        assert_error(slow_api.call("GET", CERTS, key=None, headers={"X-Forwarded-For": "192.0.2.1"}), 401)
    fail(slow_api, 1)


def test_failures_are_logged_with_address_and_prefix_and_counted(slow_api: API) -> None:
    stranger, password = new_secret(), "co_hunter2-is-my-password"
    ask(slow_api, stranger)
    ask(slow_api, password)
    fail(slow_api, MOST - 2)
    ask(slow_api, new_secret())
    events = [event for event in slow_api.log_events() if event["event"] == "authentication.failed"]
    assert [(event["address"], event["prefix"], event["reason"]) for event in events[:2]] == [
        ("192.0.2.1", stranger[:8], "unknown"),
        ("192.0.2.1", "", "unknown"),
    ]
    assert events[-1]["reason"] == "slowed"
    text = slow_api.log_text.getvalue()
    assert stranger[:9] not in text
    assert "hunter2" not in text
    metrics = slow_api.call("GET", "/metrics").body.decode()
    assert f'certorbit_authentication_failures_total{{reason="unknown"}} {MOST}' in metrics
    assert 'certorbit_authentication_failures_total{reason="slowed"} 1' in metrics


def wait_of(attempts: FailedAttempts, address: str, clock: FakeClock) -> int:
    try:
        attempts.check_address(address, now=clock.now())
    except TooManyFailures as error:
        return error.seconds
    return 0


def test_the_wait_does_not_grow_without_bound_and_a_clock_set_back_keeps_nobody_out() -> None:
    clock, attempts = FakeClock(), FailedAttempts(per_minute=60)
    for _ in range(1000):
        attempts.note("192.0.2.1", "co_abcde", now=clock.now())
    assert wait_of(attempts, "192.0.2.1", clock) == 2
    clock.advance(hours=-1)
    assert wait_of(attempts, "192.0.2.1", clock) == 0
    attempts.note("192.0.2.1", "co_abcde", now=clock.now())
    assert wait_of(attempts, "192.0.2.1", clock) <= 2


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    clock, attempts = FakeClock(), FailedAttempts(per_minute=1)
    for number in range(10_001):
        attempts.note(f"10.0.{number // 256}.{number % 256}", "p", now=clock.now())
    assert wait_of(attempts, "10.0.0.0", clock) == 0
    assert wait_of(attempts, "10.0.0.1", clock) == 60
    clock.advance(timedelta(minutes=1).total_seconds())
    assert wait_of(attempts, "10.0.0.1", clock) == 0

"""The memory of names that fail: the ladder, an operator's act, and which problems are about names."""

from datetime import UTC, datetime, timedelta

import pytest

from certorbit.errors import AccountProblem, ChallengeFailed, OrderLost, RateLimited, RetryRule, Unreachable
from certorbit.model.backoff import LADDER
from certorbit.model.ca_limits import AccountKey
from certorbit.model.identifier_failure import (
    FAILING,
    LIMITED,
    LONGEST_SENTENCE,
    after_failure,
    explain_failing,
    failed_identifiers,
    first_failure,
)
from certorbit.model.operation import Problem, problem_from
from fakes.clock import FakeChance

NOW = datetime(2027, 1, 1, tzinfo=UTC)
ACCOUNT = AccountKey("https://ca.test/dir", "acme")
NAMES = ("a.example.com", "b.example.com")
NO_JITTER = FakeChance(0.0).between


def test_a_name_climbs_the_ladder_and_stays_on_its_last_rung() -> None:
    failure = first_failure(ACCOUNT, "a.example.com", "no", now=NOW, uniform=NO_JITTER)
    waits = [failure.next_at - NOW]
    for _ in range(5):
        now = failure.next_at
        failure = after_failure(failure, "still no", now=now, uniform=NO_JITTER, since=None)
        waits.append(failure.next_at - now)
    assert waits == [*LADDER, LADDER[-1], LADDER[-1]]
    assert (failure.failures, failure.sentence, failure.first_failed_at) == (6, "still no", NOW)


@pytest.mark.parametrize(("point", "share"), [(0.0, 1.0), (1.0, 1.2)])
def test_jitter_is_only_added(point: float, share: float) -> None:
    failure = first_failure(ACCOUNT, "a.example.com", "no", now=NOW, uniform=FakeChance(point).between)
    assert failure.next_at - NOW == timedelta(minutes=share)


def test_an_operators_act_starts_afresh_but_the_failures_go_on_being_counted() -> None:
    failure = first_failure(ACCOUNT, "a.example.com", "no", now=NOW, uniform=NO_JITTER)
    failure = after_failure(failure, "no", now=NOW, uniform=NO_JITTER, since=None)
    asked_at = NOW + timedelta(seconds=1)
    assert failure.holds(since=None)
    assert failure.holds(since=NOW)
    assert not failure.holds(since=asked_at)
    failure = after_failure(failure, "no", now=asked_at, uniform=NO_JITTER, since=asked_at)
    assert (failure.rung, failure.failures, failure.next_at) == (1, 3, asked_at + LADDER[0])


def test_a_cas_endless_sentence_is_cut() -> None:
    failure = first_failure(ACCOUNT, "a.example.com", "x" * 10_000, now=NOW, uniform=NO_JITTER)
    assert len(failure.sentence) == LONGEST_SENTENCE


SUBPROBLEMS = {"a.example.com": "dns: NXDOMAIN", "(no identifier)": "?"}


def own_problem(kind: str) -> Problem:
    return Problem("It waits.", kind, "waits", {"a.example.com": "dns: NXDOMAIN"}, RetryRule.AT, NOW)


@pytest.mark.parametrize(
    ("problem", "names"),
    [
        pytest.param(
            problem_from(ChallengeFailed("no", type="t", detail="d", subproblems=SUBPROBLEMS)),
            ["a.example.com"],
            id="a failed challenge",
        ),
        pytest.param(problem_from(ChallengeFailed("no", type="t", detail="d")), [], id="no name is named"),
        pytest.param(
            problem_from(OrderLost("no", type="t", detail="d", subproblems=SUBPROBLEMS)), [], id="an expired order"
        ),
        pytest.param(
            problem_from(AccountProblem("no", type="t", detail="d", subproblems=SUBPROBLEMS)), [], id="the account"
        ),
        pytest.param(
            problem_from(RateLimited("no", type="t", detail="d", subproblems=SUBPROBLEMS)), [], id="a rate limit"
        ),
        pytest.param(problem_from(Unreachable("no", subject="h", phase="read")), [], id="an outage"),
        pytest.param(own_problem(LIMITED), [], id="our waiting for a limit"),
        pytest.param(own_problem(FAILING), [], id="our waiting for a name"),
    ],
)
def test_only_a_refusal_that_names_a_name_is_a_failure_of_it(problem: Problem, names: list[str]) -> None:
    assert list(failed_identifiers(problem, NAMES)) == names


def test_people_are_told_which_names_fail_and_why() -> None:
    one = first_failure(ACCOUNT, "a.example.com", "dns: NXDOMAIN", now=NOW, uniform=NO_JITTER)
    assert explain_failing([one], until=one.next_at) == (
        "a.example.com: failed 1 time in a row, last with dns: NXDOMAIN; next try at 2027-01-01 00:01:00 UTC."
        " Mend the name, or take it out of the certificate."
    )
    many = explain_failing([one] * 12, until=one.next_at)
    assert "; and 2 more; next try at" in many

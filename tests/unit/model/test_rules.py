"""Backoff, rights, keys that don't show themselves, and the error tree."""

import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from certorbit.errors import BACKOFF, NEVER, IssuerRefused, NotAllowed, RateLimited, RetryRule, Unreachable, retry_at
from certorbit.model.access import APIKeyID, Principal, Right, Role
from certorbit.model.backoff import LADDER, Poll, next_attempt_at
from certorbit.model.entry import is_entry_id, parse_side
from certorbit.model.material import PrivateKeyPEM
from certorbit.model.operation import Problem, problem_from, problem_from_json, problem_to_json

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)


def problem(retry: RetryRule, at: datetime | None = None) -> Problem:
    return Problem(message="m", type="t", detail="d", subproblems={}, retry=retry, retry_at=at)


@pytest.mark.parametrize(
    ("attempt", "wait"),
    [(1, timedelta(minutes=1)), (2, timedelta(minutes=10)), (3, timedelta(minutes=100)), (4, timedelta(days=1))],
)
def test_the_ladder_is_one_ten_hundred_minutes_then_daily(attempt: int, wait: timedelta) -> None:
    at = next_attempt_at(problem(RetryRule.BACKOFF), attempt=attempt, now=NOW, uniform=lambda low, _high: low)
    assert at == NOW + wait


def test_the_ladder_never_ends_and_its_jitter_only_adds() -> None:
    at = next_attempt_at(problem(RetryRule.BACKOFF), attempt=400, now=NOW, uniform=lambda _low, high: high)
    assert at == NOW + LADDER[-1] * 1.2


def test_the_issuers_own_time_wins_and_is_never_undercut() -> None:
    said = NOW + timedelta(hours=3)
    at = next_attempt_at(problem(RetryRule.AT, said), attempt=1, now=NOW, uniform=lambda low, _high: low)
    assert at == said


def test_a_poll_starts_at_fifty_milliseconds_and_stays_bounded() -> None:
    poll = Poll()
    pauses = [poll.pause(turn, uniform=lambda _low, _high: 1.0) for turn in range(30)]
    assert pauses[0] == pytest.approx(0.05)
    assert pauses == sorted(pauses)
    assert max(pauses) == poll.longest


def test_a_read_only_key_may_not_write_and_is_told_so() -> None:
    reader = Principal(key_id=APIKeyID("k"), name="ci", role=Role.VIEWER, may_export_keys=False)
    reader.check(Right.READ)
    with pytest.raises(NotAllowed, match="'ci' \\(viewer\\) has no right to change anything"):
        reader.check(Right.WRITE)


@pytest.mark.parametrize("role", list(Role))
def test_exporting_keys_is_a_right_of_its_own(role: Role) -> None:
    for may in (False, True):
        assert Principal(key_id=APIKeyID("k"), name="n", role=role, may_export_keys=may).has(Right.EXPORT_KEYS) is may


def test_a_private_key_does_not_show_itself() -> None:
    key = PrivateKeyPEM("secret text")
    assert "secret" not in f"{key} {key!r} {[key]}"
    assert key.reveal() == "secret text"
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize("good", ["a", "a1", "a-b", "z" * 63])
def test_entry_ids_follow_the_rule_of_cloud_load_balancers(good: str) -> None:
    assert is_entry_id(good)


@pytest.mark.parametrize("bad", ["", "A", "1a", "-a", "a-", "a_b", "z" * 64, "a\n", "ä"])
def test_other_entry_ids_are_refused(bad: str) -> None:
    assert not is_entry_id(bad)


def test_every_dialects_spelling_of_a_side_is_understood() -> None:
    assert parse_side("client") is parse_side("clientCA")


def test_a_problem_says_whether_its_order_can_go_on() -> None:
    down = Unreachable("down", subject="ca", phase="connect")
    limited = RateLimited("slow", type="urn:x", detail="slow", retry=retry_at(NOW))
    refused = IssuerRefused("no", type="urn:y", detail="no", subproblems={"b": "2", "a": "1"})
    assert problem_from(down).keeps_order
    assert problem_from(limited).keeps_order
    assert problem_from(limited).retry_at == NOW
    assert not problem_from(refused).keeps_order
    assert list(problem_from(refused).subproblems) == ["a", "b"]
    assert (down.retry, refused.retry) == (BACKOFF, NEVER)


def test_a_problem_reads_back_from_a_row_and_from_a_checkpoint_as_it_was() -> None:
    full = Problem(
        message="m",
        type="t",
        detail="d",
        subproblems={"a": "1"},
        retry=RetryRule.AT,
        retry_at=NOW,
        keeps_order=True,
        blames_issuer=True,
        held={"first": NOW},
    )
    for one in (full, problem(RetryRule.NEVER)):
        assert problem_from_json(json.loads(json.dumps(problem_to_json(one)))) == one

"""Which issuer's turn it is, and when."""

from datetime import UTC, datetime, timedelta

import pytest

from certorbit.errors import RetryRule
from certorbit.model.failover import next_issuer, next_turn, note_held, order_for, prefer, rung
from certorbit.model.operation import Problem

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ABC = ("a", "b", "c")


def low(start: float, _end: float) -> float:
    return start


def make_problem(*, blames_issuer: bool = True, wait: timedelta | None = None) -> Problem:
    return Problem(
        message="No.",
        type="about:blank",
        detail="No.",
        subproblems={},
        retry=RetryRule.BACKOFF if wait is None else RetryRule.AT,
        retry_at=None if wait is None else NOW + wait,
        blames_issuer=blames_issuer,
    )


def find_next(current: str, problem: Problem, **held: timedelta) -> str | None:
    before = {name: NOW + wait for name, wait in held.items()}
    noted = note_held(before, current, problem, now=NOW, uniform=low)
    return next_issuer(ABC, current, problem, held=noted, now=NOW)


@pytest.mark.parametrize(
    ("own", "order"),
    [
        pytest.param(None, ABC, id="none-of-its-own"),
        pytest.param(("c", "a"), ("c", "a"), id="some-in-another-order"),
        pytest.param(("gone", "b"), ("b",), id="one-that-is-gone"),
        pytest.param(("gone",), ABC, id="all-are-gone"),
    ],
)
def test_a_configuration_may_have_an_order_of_its_own(own: tuple[str, ...] | None, order: tuple[str, ...]) -> None:
    by_config = {"other": ("b",)} | ({} if own is None else {"shop": own})
    assert order_for("shop", ABC, by_config) == order


@pytest.mark.parametrize(
    ("chosen", "order"), [("", ABC), ("b", ("b", "a", "c")), ("nobody", ABC)], ids=["none", "another", "unknown"]
)
def test_the_chosen_issuer_comes_first(chosen: str, order: tuple[str, ...]) -> None:
    assert prefer(ABC, chosen) == order


@pytest.mark.parametrize(
    ("current", "successor"), [("a", "b"), ("b", "c"), ("c", None), ("gone", None)], ids=["a", "b", "last", "unknown"]
)
def test_who_is_at_fault_makes_room_for_the_next_one(current: str, successor: str | None) -> None:
    assert find_next(current, make_problem()) == successor


def test_names_at_fault_are_at_fault_everywhere() -> None:
    assert find_next("a", make_problem(blames_issuer=False)) is None


@pytest.mark.parametrize(("wait", "successor"), [(4 * MINUTE, None), (5 * MINUTE, "b"), (48 * HOUR, "b")])
def test_a_short_wait_is_no_reason_to_change(wait: timedelta, successor: str | None) -> None:
    assert find_next("a", make_problem(wait=wait)) == successor


def test_an_issuer_that_said_not_before_is_passed_over() -> None:
    assert find_next("a", make_problem(), b=HOUR) == "c"
    assert find_next("a", make_problem(), b=HOUR, c=HOUR) is None
    assert find_next("a", make_problem(), b=-MINUTE) == "b"


def test_words_are_remembered_until_they_are_over() -> None:
    held = {"a": NOW - MINUTE, "b": NOW + HOUR}
    noted = note_held(held, "c", make_problem(wait=2 * HOUR), now=NOW, uniform=low)
    assert noted == {"b": NOW + HOUR, "c": NOW + 2 * HOUR}
    assert note_held(noted, "a", make_problem(), now=NOW, uniform=low) == noted
    blameless = make_problem(blames_issuer=False, wait=HOUR)
    assert note_held({}, "a", blameless, now=NOW, uniform=low) == {}, "that is the names' word"


def turn(current: str, **held: timedelta) -> tuple[str, timedelta]:
    waits = {name: NOW + wait for name, wait in held.items()}
    name, at = next_turn(ABC, current, planned=NOW + 10 * MINUTE, held=waits, now=NOW)
    return name, at - NOW


@pytest.mark.parametrize(
    ("current", "held", "expected"),
    [
        ("c", {}, ("a", 10 * MINUTE)),
        ("c", {"c": 48 * HOUR}, ("a", 10 * MINUTE)),
        ("c", {"a": 48 * HOUR}, ("b", 10 * MINUTE)),
        ("c", {"a": 3 * HOUR, "b": 2 * HOUR, "c": HOUR}, ("c", HOUR)),
        ("c", {"a": MINUTE}, ("a", 10 * MINUTE)),
        ("c", {"c": 6 * MINUTE}, ("c", 6 * MINUTE)),
        ("b", {"b": MINUTE}, ("b", MINUTE)),
    ],
    ids=[
        "the-ladder-asks-the-first",
        "another-ones-word-does-not-hold-the-first",
        "the-first-is-held",
        "all-are-held",
        "a-word-does-not-shorten-the-ladder-of-others",
        "its-own-word-wins-over-the-ladder",
        "a-short-wait-is-waited-for",
    ],
)
def test_the_next_turn(current: str, held: dict[str, timedelta], expected: tuple[str, timedelta]) -> None:
    assert turn(current, **held) == expected


def test_all_issuers_together_make_one_try() -> None:
    assert [rung(attempt, ABC) for attempt in range(1, 8)] == [1, 1, 1, 2, 2, 2, 3]
    assert [rung(attempt, ("a",)) for attempt in range(1, 4)] == [1, 2, 3]

"""When certificates are renewed: a table of cases, and what is remembered of the CA's own suggestion."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from certorbit.model.maintenance import MaintenanceWindow
from certorbit.model.renewal import (
    LONG_TERM,
    PASSING_LADDER,
    Decision,
    Lifetime,
    Reason,
    RenewalInfo,
    RenewalRules,
    clamp_retry_after,
    decide,
    emergency_at,
    is_usable,
    lifetime_of,
    next_try_at,
    note_answer,
    note_failure,
    should_ask,
)
from certorbit.pki.read import read_facts
from make import make_chain

BIRTH = datetime(2027, 1, 4, tzinfo=UTC)  # a Monday
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RULES = RenewalRules()
NIGHTS = MaintenanceWindow(frozenset(range(7)), time(22), time(4), ZoneInfo("UTC"))
SUNDAYS = MaintenanceWindow(frozenset({6}), time(2), time(4), ZoneInfo("UTC"))


def life(days: float, *, point: float = 0.0, predecessor: datetime | None = None) -> Lifetime:
    return Lifetime(BIRTH, BIRTH + timedelta(days=days), point, predecessor)


def window(start: datetime, end: datetime, chosen: datetime, *, seen: datetime = BIRTH) -> RenewalInfo:
    """What is stored after an answer; the next check is far away unless a test says otherwise."""
    far = BIRTH + timedelta(days=5000)
    return RenewalInfo(start, end, "", chosen, seen, far, "", seen_at=seen)


def at(days: float, hours: float = 0.0) -> datetime:
    return BIRTH + timedelta(days=days, hours=hours)


NOTHING = RenewalInfo(None, None, "", None, BIRTH, at(5000), "no answer", failures=3)
USUAL = window(at(59), at(61), at(60, 5))
EARLY = window(at(20), at(22), at(21))
LATE = window(at(86), at(90), at(88))
BEYOND = window(at(95), at(97), at(96))
OVER = window(at(8), at(9), at(8, 12), seen=at(10))  # at day 10 the CA wants it replaced: an incident
FIRST_NIGHT = window(at(-2), at(-1), at(-1.5))


@dataclass(frozen=True)
class Case:
    """At `now` the answer is `due` for `reason`."""

    now: datetime
    due: datetime
    reason: Reason
    life: Lifetime = field(default_factory=lambda: life(90))
    info: RenewalInfo | None = None
    rules: RenewalRules = RULES


def with_windows(*windows: MaintenanceWindow) -> RenewalRules:
    return replace(RULES, windows=windows)


ARI, FRACTION, EMERGENCY, EXPIRED = Reason.ARI, Reason.FRACTION, Reason.EMERGENCY, Reason.EXPIRED
CASES = {
    # without ARI
    "90 days: a third is left": Case(at(0), at(60), FRACTION),
    "45 days: a third is left": Case(at(1), at(30), FRACTION, life(45)),
    "397 days: a third is left": Case(at(1), at(300), FRACTION, life(450)),
    "160 hours: half is left": Case(at(0), at(0, 80), FRACTION, life(160 / 24)),
    "a day: half is left": Case(at(0), at(0, 12), FRACTION, life(1)),
    "just under 10 days: half": Case(at(0), at(0, 119.5), FRACTION, life(239 / 24)),
    "10 days are not short": Case(at(0), at(8), FRACTION, life(12)),
    "exactly 10 days: a third": Case(at(0), at(0, 160), FRACTION, life(10)),
    "the moment before": Case(at(60) - timedelta(seconds=1), at(60), FRACTION),
    "the very moment": Case(at(60), at(60), FRACTION),
    "a due time in the past means now": Case(at(70), at(70), FRACTION),
    "the last point of the spread": Case(at(0), at(60 - 1.8), FRACTION, life(90, point=1.0)),
    "half of the spread": Case(at(0), at(60 - 0.9), FRACTION, life(90, point=0.5)),
    "the spread of 160 hours": Case(at(0), at(0, 80 - 3.2), FRACTION, life(160 / 24, point=1.0)),
    "no spread": Case(at(0), at(60), FRACTION, life(90, point=1.0), rules=replace(RULES, spread=0.0)),
    "the operator's fraction": Case(at(0), at(45), FRACTION, rules=replace(RULES, fraction=0.5)),
    "not yet valid": Case(at(-1), at(60), FRACTION),
    # with ARI
    "the chosen instant, exactly": Case(at(0), at(60, 5), ARI, info=USUAL),
    "the chosen instant has no spread": Case(at(0), at(60, 5), ARI, life(90, point=1.0), info=USUAL),
    "before the window opens": Case(at(59) - HOUR, at(60, 5), ARI, info=USUAL),
    "inside the window, before the instant": Case(at(60), at(60, 5), ARI, info=USUAL),
    "at the chosen instant": Case(at(60, 5), at(60, 5), ARI, info=USUAL),
    "a chosen instant in the past means now": Case(at(60, 6), at(60, 6), ARI, info=USUAL),
    "slept through the window": Case(at(65), at(65), ARI, info=USUAL),
    "earlier than our own rule": Case(at(0), at(21), ARI, info=EARLY),
    "later than our own rule": Case(at(65), at(80), ARI, info=window(at(79), at(81), at(80))),
    "later than an emergency": Case(at(65), at(85.5), EMERGENCY, info=LATE),
    "after the end": Case(at(65), at(85.5), EMERGENCY, info=BEYOND),
    "exactly the emergency": Case(at(0), at(85.5), EMERGENCY, info=window(at(85), at(86), at(85.5))),
    "no window was ever given": Case(at(0), at(60), FRACTION, info=NOTHING),
    "the CA wants it replaced": Case(at(10), at(10), Reason.ARI_URGENT, info=OVER),
    "a fresh one, at once": Case(at(0), at(0), Reason.ARI_URGENT, info=FIRST_NIGHT),
    "160 hours by ARI": Case(at(0), at(0, 79), ARI, life(160 / 24), info=window(at(3), at(4), at(0, 79))),
    # a loop of early renewals is slowed down
    "a quick successor waits a day": Case(
        at(0), at(1), Reason.ARI_URGENT, life(90, predecessor=at(-0.5)), info=FIRST_NIGHT
    ),
    "a successor of a day's age does not": Case(
        at(0), at(0), Reason.ARI_URGENT, life(90, predecessor=at(-1)), info=FIRST_NIGHT
    ),
    "a quick successor of 160 hours too": Case(
        at(0, 1), at(1), Reason.ARI_URGENT, life(160 / 24, predecessor=at(0, -1)), info=FIRST_NIGHT
    ),
    "a quarter of a short life is enough": Case(
        at(0), at(0, 3), Reason.ARI_URGENT, life(0.5, predecessor=at(0, -1)), info=FIRST_NIGHT
    ),
    "a quick successor by our own rule": Case(at(60), at(60), FRACTION, life(90, predecessor=at(0, -1))),
    # emergency and end
    "one second before the emergency": Case(
        at(85.5) - timedelta(seconds=1), at(85.5), EMERGENCY, info=window(at(86), at(87), at(86.5))
    ),
    "emergency": Case(at(85.5), at(85.5), EMERGENCY),
    "emergency wins over ARI": Case(at(87), at(87), EMERGENCY, info=LATE),
    "emergency of 160 hours": Case(at(0, 152), at(0, 152), EMERGENCY, life(160 / 24)),
    "the last second": Case(at(90) - timedelta(seconds=1), at(90) - timedelta(seconds=1), EMERGENCY),
    "the end itself": Case(at(90), at(90), EXPIRED),
    "long gone": Case(at(900), at(900), EXPIRED, info=USUAL),
    "expired breaks maintenance windows": Case(at(91), at(91), EXPIRED, rules=with_windows(SUNDAYS)),
    "an upside-down certificate": Case(at(-3), at(-3), EMERGENCY, life(-2)),
    # maintenance windows
    "inside a maintenance window": Case(at(60, 1), at(60, 1), FRACTION, rules=with_windows(NIGHTS)),
    "put off into the night": Case(at(60, 12), at(60, 22), Reason.MAINTENANCE, rules=with_windows(NIGHTS)),
    "a due time to come is put off as well": Case(
        at(0), at(60, 22), Reason.MAINTENANCE, info=USUAL, rules=with_windows(NIGHTS)
    ),
    "put off to Sunday": Case(at(60, 12), at(62, 2), Reason.MAINTENANCE, rules=with_windows(SUNDAYS)),
    "the earliest of several windows": Case(
        at(60, 5), at(60, 22), Reason.MAINTENANCE, rules=with_windows(SUNDAYS, NIGHTS)
    ),
    "the next Sunday would be too late": Case(at(83, 5), at(85.5), EMERGENCY, rules=with_windows(SUNDAYS)),
    "an emergency breaks windows": Case(at(86), at(86), EMERGENCY, rules=with_windows(SUNDAYS)),
    "6 days, Sunday comes in time": Case(
        at(0), at(6, 2), Reason.MAINTENANCE, life(160 / 24), rules=with_windows(SUNDAYS)
    ),
    "5 days, Sunday comes too late": Case(at(0), at(4.75), EMERGENCY, life(5), rules=with_windows(SUNDAYS)),
    "a revocation to come breaks windows": Case(
        at(10, 12), at(10, 12), Reason.ARI_URGENT, info=OVER, rules=with_windows(NIGHTS)
    ),
    "a window that we slept through does not": Case(
        at(65, 12), at(65, 22), Reason.MAINTENANCE, info=USUAL, rules=with_windows(NIGHTS)
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=f"ok/{title}") for title, case in CASES.items()])
def test_a_certificate_is_due_as_the_table_says(case: Case) -> None:
    decision = decide(case.life, info=case.info, now=case.now, rules=case.rules)
    assert abs(decision.due_at - case.due) < timedelta(seconds=1), f"due at {decision.due_at}"
    assert decision.reason is case.reason
    assert decision.next_look_at == decision.due_at, "nothing is to be asked before"


def test_a_check_that_comes_first_is_the_next_look() -> None:
    info = replace(USUAL, next_check_at=at(3))
    assert decide(life(90), info=info, now=at(2), rules=RULES) == Decision(at(60, 5), ARI, at(3))
    assert decide(life(90), info=info, now=at(4), rules=RULES).next_look_at == at(4), "overdue means now"


def test_the_point_of_a_certificate_is_its_own_and_stays() -> None:
    chains = [make_chain(names=[f"{number}.example"]) for number in range(64)]
    lives = [lifetime_of(read_facts(chain.leaf)) for chain in chains]
    points = sorted(one.point for one in lives)
    assert lifetime_of(read_facts(chains[0].leaf)) == lives[0]
    assert len(set(points)) == 64
    assert (points[0] < 0.25, points[-1] > 0.75, points[-1] < 1.0) == (True, True, True)
    assert lives[0].not_after == chains[0].leaf.not_valid_after_utc


def test_the_predecessor_is_known_by_its_start() -> None:
    facts, before = (read_facts(make_chain(days=days).leaf) for days in (90, 30))
    assert lifetime_of(facts).predecessor_not_before is None
    assert lifetime_of(facts, predecessor=before).predecessor_not_before == before.not_before


def test_emergency_is_a_part_of_the_lifetime() -> None:
    assert emergency_at(life(90), rules=RULES) == at(85.5)
    assert emergency_at(life(90), rules=replace(RULES, emergency_fraction=0.1)) == at(81)


@pytest.mark.parametrize(
    ("info", "now", "is_replaced", "asks"),
    [
        pytest.param(None, at(0), False, True, id="ok/right after issuance"),
        pytest.param(USUAL, at(1), False, False, id="ok/not yet"),
        pytest.param(replace(USUAL, next_check_at=at(1)), at(1), False, True, id="ok/at the time noted"),
        pytest.param(replace(NOTHING, next_check_at=at(1)), at(2), False, True, id="ok/after a failure as well"),
        pytest.param(None, at(90), False, False, id="refused/expired"),
        pytest.param(replace(USUAL, next_check_at=at(1)), at(91), False, False, id="refused/long expired"),
        pytest.param(None, at(1), True, False, id="refused/replaced"),
    ],
)
def test_ari_is_asked_when_it_may_be(*, info: RenewalInfo | None, now: datetime, is_replaced: bool, asks: bool) -> None:
    assert should_ask(life(90), info=info, now=now, is_replaced=is_replaced) is asks


def answer(previous: RenewalInfo | None, *, start: float, end: float, now: datetime, point: float = 0.5) -> RenewalInfo:
    return note_answer(
        previous,
        start=at(start),
        end=at(end),
        explanation_url="https://ca.example/why",
        retry_after=6 * HOUR,
        now=now,
        uniform=lambda low, high: low + (high - low) * point,
    )


def test_one_instant_is_chosen_for_one_window() -> None:
    first = answer(None, start=59, end=61, now=at(0), point=0.25)
    assert (first.chosen_at, first.seen_at, first.next_check_at) == (at(59.5), at(0), at(0, 6))
    second = answer(first, start=59, end=61, now=at(0, 6), point=0.9)
    assert (second.chosen_at, second.seen_at, second.checked_at) == (at(59.5), at(0), at(0, 6))
    moved = answer(second, start=58, end=61, now=at(1), point=0.5)
    assert (moved.chosen_at, moved.seen_at) == (at(59.5), at(1))


def test_a_window_that_was_over_when_it_was_named_is_urgent() -> None:
    assert answer(None, start=8, end=9, now=at(9)).is_urgent
    assert not answer(None, start=8, end=9, now=at(8.5)).is_urgent
    seen_in_time = answer(None, start=8, end=9, now=at(1))
    assert not answer(seen_in_time, start=8, end=9, now=at(30)).is_urgent, "we slept; the CA is in no hurry"
    assert not NOTHING.is_urgent


def test_now_is_inside_the_window_from_its_start_up_to_its_end() -> None:
    inside = [USUAL.is_inside(at(59) - MINUTE), USUAL.is_inside(at(59)), USUAL.is_inside(at(61) - MINUTE)]
    assert (inside, USUAL.is_inside(at(61))) == ([False, True, True], False)
    assert not NOTHING.is_inside(at(60))


def fail(previous: RenewalInfo | None, *, is_passing: bool, retry_after: timedelta | None = None) -> RenewalInfo:
    return note_failure(
        previous, problem="why", is_passing=is_passing, retry_after=retry_after, now=at(1), uniform=lambda low, _: low
    )


def test_a_failure_keeps_what_was_known() -> None:
    noted = fail(USUAL, is_passing=False)
    expected = replace(USUAL, checked_at=at(1), next_check_at=at(1, 6), problem="why", failures=1)
    assert noted == expected
    assert decide(life(90), info=noted, now=at(2), rules=RULES).due_at == at(60, 5)


def test_temporary_failures_are_tried_sooner_a_bounded_number_of_times() -> None:
    info: RenewalInfo | None = None
    waits: list[timedelta] = []
    for _ in range(8):
        info = fail(info, is_passing=True)
        waits.append(info.next_check_at - at(1))
    assert waits == [*PASSING_LADDER, LONG_TERM, LONG_TERM]
    assert answer(info, start=59, end=61, now=at(2)).failures == 0


def test_the_word_of_the_ca_wins_over_our_steps_within_bounds() -> None:
    assert fail(None, is_passing=True, retry_after=2 * HOUR).next_check_at == at(1, 2)
    assert fail(None, is_passing=False, retry_after=10 * DAY).next_check_at == at(2)
    assert fail(None, is_passing=False, retry_after=timedelta(0)).next_check_at == at(1) + MINUTE


def test_retry_after_is_clamped_to_a_minute_and_a_day() -> None:
    wishes = [timedelta(seconds=-5), MINUTE, 6 * HOUR, DAY, 8 * DAY]
    assert [clamp_retry_after(wish) for wish in wishes] == [MINUTE, MINUTE, 6 * HOUR, DAY, DAY]


def test_an_end_that_does_not_follow_the_start_makes_no_window() -> None:
    assert is_usable(at(1), at(2))
    assert not is_usable(at(1), at(1))
    assert not is_usable(at(2), at(1))


@pytest.mark.parametrize(
    ("planned", "left", "expected"),
    [
        pytest.param(MINUTE, 30 * DAY, MINUTE, id="ok/a short wait stays"),
        pytest.param(DAY, 30 * DAY, DAY, id="ok/a day of thirty stays"),
        pytest.param(DAY, 80 * HOUR, 10 * HOUR, id="ok/a day of three is too long"),
        pytest.param(DAY, 8 * HOUR, HOUR, id="ok/the last hours"),
        pytest.param(DAY, HOUR, 15 * MINUTE, id="ok/never more often than every 15 minutes"),
        pytest.param(DAY, MINUTE, 15 * MINUTE, id="ok/the last minute"),
        pytest.param(DAY, timedelta(0), DAY, id="ok/expired: no haste"),
        pytest.param(DAY, -DAY, DAY, id="ok/long expired"),
    ],
)
def test_the_ladder_hurries_when_the_end_is_near(planned: timedelta, left: timedelta, expected: timedelta) -> None:
    failed_at = at(50)
    assert next_try_at(failed_at + planned, failed_at=failed_at, not_after=failed_at + left) == failed_at + expected

"""What holds for every certificate, every answer of a CA and every set of rules."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from certorbit.model.maintenance import MaintenanceWindow, next_allowed
from certorbit.model.renewal import (
    LONG_TERM,
    Lifetime,
    Reason,
    RenewalInfo,
    RenewalRules,
    decide,
    emergency_at,
    next_try_at,
    note_answer,
    note_failure,
)

BIRTH = datetime(2027, 3, 1, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
points = st.floats(0.0, 1.0)
minutes = st.integers(0, 24 * 60 - 1).map(lambda minute: time(minute // 60, minute % 60))
windows = st.builds(
    MaintenanceWindow,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    opens=minutes,
    closes=minutes,
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)
rules_strategy = st.builds(
    RenewalRules,
    fraction=st.floats(0.21, 0.8),
    short_fraction=st.floats(0.21, 0.8),
    emergency_fraction=st.floats(0.01, 0.2),
    spread=st.floats(0.0, 0.1),
    windows=st.lists(windows, max_size=2).map(tuple),
)


def spans(low: timedelta, high: timedelta) -> st.SearchStrategy[timedelta]:
    return st.integers(int(low.total_seconds()), int(high.total_seconds())).map(lambda s: timedelta(seconds=s))


DAY = timedelta(days=1)
lives = st.builds(
    lambda length, point, age: Lifetime(BIRTH, BIRTH + length, point, None if age is None else BIRTH - age),
    length=spans(timedelta(minutes=10), 400 * DAY),
    point=st.floats(0.0, 1.0, exclude_max=True),
    age=st.none() | spans(timedelta(0), 100 * DAY),
)


@st.composite
def infos(draw: st.DrawFn) -> RenewalInfo | None:
    if draw(st.booleans()):
        return None
    seen = BIRTH + draw(spans(timedelta(0), 400 * DAY))
    check = seen + draw(spans(timedelta(minutes=1), DAY))
    if draw(st.integers(0, 4)) == 0:
        return RenewalInfo(None, None, "", None, seen, check, "no answer", failures=1)
    start = BIRTH + draw(spans(-30 * DAY, 500 * DAY))
    end = start + draw(spans(timedelta(minutes=1), 40 * DAY))
    chosen = start + (end - start) * draw(points)
    return RenewalInfo(start, end, "", chosen, seen, check, "", seen_at=seen)


@settings(max_examples=400, deadline=None)
@given(life=lives, info=infos(), rules=rules_strategy, part=st.floats(0.0, 1.0, exclude_max=True))
def test_a_live_certificate_is_due_before_it_ends_and_never_in_the_past(
    life: Lifetime, info: RenewalInfo | None, rules: RenewalRules, part: float
) -> None:
    now = life.not_before + life.length * part
    assume(now < life.not_after)
    decision = decide(life, info=info, now=now, rules=rules)
    latest = emergency_at(life, rules=rules)
    assert now <= decision.due_at < life.not_after
    assert decision.due_at <= max(now, latest)
    assert now <= decision.next_look_at <= decision.due_at
    assert (decision.due_at >= latest) == (decision.reason is Reason.EMERGENCY), "an emergency always wins"
    if decision.reason in {Reason.FRACTION, Reason.ARI, Reason.MAINTENANCE}:
        assert next_allowed(decision.due_at, rules.windows) == decision.due_at


@settings(max_examples=300, deadline=None)
@given(life=lives, info=infos(), rules=rules_strategy, first=points, second=points)
def test_time_that_passes_never_brings_the_due_time_forward(
    life: Lifetime, info: RenewalInfo | None, rules: RenewalRules, first: float, second: float
) -> None:
    early, late = sorted(life.not_before + life.length * part for part in (first, second))
    before = decide(life, info=info, now=early, rules=rules)
    after = decide(life, info=info, now=late, rules=rules)
    assert before.due_at <= after.due_at
    if late <= before.due_at:
        assert after.due_at == before.due_at, "who looks more often finds nothing new"


@settings(max_examples=200, deadline=None)
@given(life=lives, rules=rules_strategy)
def test_the_spread_only_makes_a_certificate_due_earlier_and_within_its_bound(
    life: Lifetime, rules: RenewalRules
) -> None:
    bare = RenewalRules(fraction=rules.fraction, short_fraction=rules.short_fraction, spread=0.0)
    spread = RenewalRules(fraction=rules.fraction, short_fraction=rules.short_fraction, spread=rules.spread)
    unspread = decide(life, info=None, now=life.not_before, rules=bare).due_at
    due = decide(life, info=None, now=life.not_before, rules=spread).due_at
    tolerance = timedelta(milliseconds=1)
    assert unspread - life.length * rules.spread - tolerance <= due <= unspread
    assert due > life.not_before


def test_a_fleet_of_one_minute_is_spread_over_the_bound() -> None:
    month = 90 * DAY
    fleet = [Lifetime(BIRTH, BIRTH + month, number / 1000) for number in range(1000)]
    dues = [decide(life, info=None, now=BIRTH, rules=RenewalRules()).due_at for life in fleet]
    hours = [int((due - min(dues)) / timedelta(hours=1)) for due in dues]
    assert max(hours) == 43, "2 % of 90 days"
    assert max(hours.count(hour) for hour in set(hours)) <= 25


@settings(max_examples=200, deadline=None)
@given(
    previous=infos(),
    start=spans(-30 * DAY, 400 * DAY),
    length=spans(timedelta(seconds=1), 40 * DAY),
    point=points,
    retry_after=st.none() | spans(-DAY, 30 * DAY),
)
def test_an_answer_always_leaves_an_instant_in_its_window_and_a_next_check(
    previous: RenewalInfo | None, start: timedelta, length: timedelta, point: float, retry_after: timedelta | None
) -> None:
    now = BIRTH + 10 * DAY
    info = note_answer(
        previous,
        start=BIRTH + start,
        end=BIRTH + start + length,
        explanation_url="",
        retry_after=retry_after,
        now=now,
        uniform=lambda low, high: low + (high - low) * point,
    )
    assert info.chosen_at is not None
    assert BIRTH + start <= info.chosen_at <= BIRTH + start + length
    assert timedelta(minutes=1) <= info.next_check_at - now <= DAY
    assert (info.problem, info.failures) == ("", 0)


@settings(max_examples=200, deadline=None)
@given(previous=infos(), is_passing=st.booleans(), retry_after=st.none() | spans(-DAY, 30 * DAY), point=points)
def test_a_failure_never_forgets_a_window_nor_the_next_check(
    *, previous: RenewalInfo | None, is_passing: bool, retry_after: timedelta | None, point: float
) -> None:
    now = BIRTH + 10 * DAY
    info = note_failure(
        previous,
        problem="why",
        is_passing=is_passing,
        retry_after=retry_after,
        now=now,
        uniform=lambda low, high: low + (high - low) * point,
    )
    assert timedelta(minutes=1) <= info.next_check_at - now <= DAY
    assert retry_after is not None or info.next_check_at - now <= LONG_TERM * 1.1
    if previous is not None:
        assert (info.start, info.end, info.chosen_at) == (previous.start, previous.end, previous.chosen_at)
        assert info.failures == previous.failures + 1


@settings(max_examples=200, deadline=None)
@given(wait=spans(timedelta(0), 40 * DAY), left=spans(-DAY, 400 * DAY))
def test_hurrying_never_delays_and_never_hammers(wait: timedelta, left: timedelta) -> None:
    sooner = next_try_at(BIRTH + wait, failed_at=BIRTH, not_after=BIRTH + left)
    assert sooner <= BIRTH + wait
    assert sooner == BIRTH + wait or sooner - BIRTH >= timedelta(minutes=15)


def test_a_ladder_that_hurries_makes_few_tries_in_the_last_days() -> None:
    now, end, tries = BIRTH, BIRTH + 30 * DAY, 0
    while now < end:
        now = next_try_at(now + DAY, failed_at=now, not_after=end)
        tries += 1
    assert 60 < tries < 80, "22 daily ones, then eight to each time that the rest is cut to a third"

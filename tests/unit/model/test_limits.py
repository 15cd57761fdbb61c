"""Token buckets: refill to the microsecond, all or nothing, and a line for those who wait."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certorbit.model.limits import Allowed, Bucket, Demand, Rule, RuleName, Wait, allow, make_rule

NOW = datetime(2027, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
ORDERS = make_rule(RuleName.ORDERS_PER_ACCOUNT, count=300, period=timedelta(hours=3))
DOMAIN = make_rule(RuleName.CERTIFICATES_PER_DOMAIN, count=50, period=timedelta(days=7))
SAME_SET = make_rule(RuleName.CERTIFICATES_PER_SET, count=5, period=timedelta(days=7))
FAILED = make_rule(RuleName.FAILED_AUTHORIZATIONS, count=5, period=timedelta(hours=1))
IN_A_ROW = make_rule(RuleName.CONSECUTIVE_FAILURES, count=1152, period=timedelta(days=1152))
RULES = [ORDERS, DOMAIN, SAME_SET, FAILED, IN_A_ROW]


def drain(rule: Rule, *, now: datetime = NOW) -> Bucket:
    """Return a bucket whose last token was taken just now."""
    bucket = Bucket(rule.name, "x")
    for _ in range(rule.capacity):
        verdict = allow([Demand(rule, bucket)], now=now)
        assert isinstance(verdict, Allowed)
        [bucket] = verdict.buckets
    return bucket


def ask(rule: Rule, bucket: Bucket, *, now: datetime, has_waited: bool = False) -> Allowed | Wait:
    return allow([Demand(rule, bucket)], now=now, has_waited=has_waited)


@pytest.mark.parametrize(
    ("rule", "refill"),
    [
        pytest.param(ORDERS, timedelta(seconds=36), id="orders per account"),
        pytest.param(DOMAIN, timedelta(minutes=201, seconds=36), id="certificates per domain"),
        pytest.param(SAME_SET, timedelta(hours=33, minutes=36), id="certificates per set"),
        pytest.param(FAILED, timedelta(minutes=12), id="failed authorizations"),
        pytest.param(IN_A_ROW, timedelta(days=1), id="failures in a row"),
    ],
)
def test_a_token_comes_in_after_one_refill_and_not_a_microsecond_before(rule: Rule, refill: timedelta) -> None:
    assert rule.refill == refill
    bucket = drain(rule)
    assert ask(rule, bucket, now=NOW) == Wait(
        NOW + refill, rule.name, "x", buckets=(replace(bucket, line_ends_at=NOW + refill),)
    )
    early = ask(rule, bucket, now=NOW + refill - TICK)
    assert isinstance(early, Wait)
    assert early.until == NOW + refill
    assert isinstance(ask(rule, bucket, now=NOW + refill), Allowed)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_empty_bucket_is_full_after_its_period_and_never_fuller(rule: Rule) -> None:
    bucket = drain(rule)
    for later in (rule.period, 10 * rule.period):
        now, taken = NOW + later, 0
        full = bucket
        while isinstance(verdict := ask(rule, full, now=now), Allowed):
            [full] = verdict.buckets
            taken += 1
        assert taken == rule.capacity


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_after_half_of_the_period_half_of_the_tokens_are_back(rule: Rule) -> None:
    bucket, now, taken = drain(rule), NOW + rule.period / 2, 0
    while isinstance(verdict := ask(rule, bucket, now=now), Allowed):
        [bucket] = verdict.buckets
        taken += 1
    assert taken == rule.capacity // 2


def test_a_refill_that_does_not_divide_is_rounded_up() -> None:
    rule = make_rule(RuleName.CERTIFICATES_PER_DOMAIN, count=30_000, period=timedelta(seconds=1))
    assert rule.refill == timedelta(microseconds=34)


def test_a_request_takes_from_all_of_its_buckets_or_from_none() -> None:
    empty = drain(DOMAIN)
    full = Bucket(ORDERS.name, "account")
    verdict = allow([Demand(ORDERS, full), Demand(DOMAIN, empty)], now=NOW)
    assert isinstance(verdict, Wait)
    assert (verdict.rule, verdict.subject) == (DOMAIN.name, "x")
    assert [bucket.rule for bucket in verdict.buckets] == [DOMAIN.name], "the account's bucket is as before"


def test_a_request_waits_for_the_last_of_its_buckets() -> None:
    demands = [Demand(ORDERS, drain(ORDERS)), Demand(SAME_SET, drain(SAME_SET)), Demand(DOMAIN, drain(DOMAIN))]
    verdict = allow(demands, now=NOW)
    assert isinstance(verdict, Wait)
    assert (verdict.until, verdict.rule) == (NOW + SAME_SET.refill, SAME_SET.name)


def test_a_demand_that_does_not_spend_only_looks() -> None:
    failing = Bucket(FAILED.name, "x", full_at=NOW + 4 * FAILED.refill)
    assert allow([Demand(FAILED, failing, spends=False)], now=NOW) == Allowed(())
    verdict = allow([Demand(FAILED, failing.spend(FAILED, now=NOW), spends=False)], now=NOW)
    assert verdict == Wait(NOW + FAILED.refill, FAILED.name, "x", buckets=())


def test_what_happened_is_counted_even_without_a_token() -> None:
    bucket = drain(FAILED).spend(FAILED, now=NOW)
    verdict = ask(FAILED, bucket, now=NOW)
    assert isinstance(verdict, Wait)
    assert verdict.until == NOW + 2 * FAILED.refill


def test_those_who_wait_are_told_different_instants_and_get_their_token_then() -> None:
    bucket, promised = drain(ORDERS), []
    for _ in range(1000):
        verdict = ask(ORDERS, bucket, now=NOW)
        assert isinstance(verdict, Wait)
        [bucket] = verdict.buckets
        promised.append(verdict.until)
    assert promised == [NOW + n * ORDERS.refill for n in range(1, 1001)]
    for instant in promised:
        verdict = ask(ORDERS, bucket, now=instant, has_waited=True)
        assert isinstance(verdict, Allowed), "nobody comes in vain"
        [bucket] = verdict.buckets


def test_somebody_new_leaves_the_last_token_to_the_line() -> None:
    empty = drain(ORDERS)
    waiting = ask(ORDERS, empty, now=NOW)
    assert isinstance(waiting, Wait)
    second = ask(ORDERS, waiting.buckets[0], now=NOW)
    assert isinstance(second, Wait)
    [line] = second.buckets
    now = waiting.until
    new = ask(ORDERS, line, now=now)
    assert isinstance(new, Wait)
    assert new.until == second.until + ORDERS.refill, "behind the one who stands there"
    assert isinstance(ask(ORDERS, line, now=now, has_waited=True), Allowed)


def test_tokens_that_nobody_in_the_line_needs_are_free_for_all() -> None:
    line_ends_at = NOW + timedelta(hours=1)
    spare = Bucket(ORDERS.name, "x", full_at=NOW + 298 * ORDERS.refill, line_ends_at=line_ends_at)
    assert isinstance(ask(ORDERS, spare, now=NOW), Allowed)
    scarce = replace(spare, full_at=NOW + 299 * ORDERS.refill)
    assert isinstance(ask(ORDERS, scarce, now=NOW), Wait)


def test_a_line_that_is_over_is_forgotten() -> None:
    bucket = Bucket(ORDERS.name, "x", full_at=NOW + 299 * ORDERS.refill, line_ends_at=NOW)
    assert isinstance(ask(ORDERS, bucket, now=NOW), Allowed)


@pytest.mark.parametrize(
    ("asked_for", "kept"),
    [
        pytest.param(timedelta(hours=1), timedelta(hours=1), id="the CA's own instant"),
        pytest.param(timedelta(days=36_000), timedelta(days=1), id="a century becomes a day"),
    ],
)
def test_a_ca_empties_a_bucket(asked_for: timedelta, kept: timedelta) -> None:
    bucket = Bucket(ORDERS.name, "x").empty_until(ORDERS, NOW + asked_for, now=NOW)
    verdict = ask(ORDERS, bucket, now=NOW)
    assert isinstance(verdict, Wait)
    assert verdict.until == NOW + kept
    [after] = allow([Demand(ORDERS, bucket)], now=NOW + kept).buckets
    assert isinstance(ask(ORDERS, after, now=NOW + kept), Wait), "it had one token then, not many"


def test_a_ca_fills_no_bucket() -> None:
    bucket = drain(SAME_SET)
    assert bucket.empty_until(SAME_SET, NOW, now=NOW) == bucket


PAUSES = st.lists(st.integers(min_value=0, max_value=4_000_000), min_size=1, max_size=80)


@given(
    capacity=st.integers(min_value=1, max_value=12),
    refill=st.integers(min_value=1, max_value=3_000_000),
    pauses=PAUSES,
)
def test_no_window_ever_sees_more_than_capacity_and_refill(capacity: int, refill: int, pauses: list[int]) -> None:
    rule = Rule(RuleName.ORDERS_PER_ACCOUNT, capacity, timedelta(microseconds=refill))
    bucket, now = Bucket(rule.name, "x"), NOW
    taken: list[datetime] = []
    for number, pause in enumerate(pauses):
        now += timedelta(microseconds=pause)
        verdict = ask(rule, bucket, now=now, has_waited=number % 2 == 0)
        if isinstance(verdict, Allowed):
            taken.append(now)
        else:
            assert verdict.until > now
        [bucket] = verdict.buckets
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= capacity + (taken[last] - start) / rule.refill


@given(
    capacity=st.integers(min_value=1, max_value=12),
    refill=st.integers(min_value=1, max_value=3_000_000),
    pauses=PAUSES,
)
def test_the_promised_instant_is_the_earliest_that_works(capacity: int, refill: int, pauses: list[int]) -> None:
    rule = Rule(RuleName.ORDERS_PER_ACCOUNT, capacity, timedelta(microseconds=refill))
    bucket, now = Bucket(rule.name, "x"), NOW
    for pause in pauses:
        now += timedelta(microseconds=pause)
        verdict = ask(rule, bucket, now=now)
        if isinstance(verdict, Wait):  # nobody else waits: the place in the line is not kept
            assert isinstance(ask(rule, bucket, now=verdict.until), Allowed)
            assert isinstance(ask(rule, bucket, now=verdict.until - TICK), Wait)
        else:
            [bucket] = verdict.buckets


@given(
    pauses=st.lists(st.integers(0, 200), min_size=1, max_size=30),
    given_back=st.integers(0, 29),
    refill=st.integers(1, 60),
)
def test_a_token_given_back_is_never_more_than_was_taken(pauses: list[int], given_back: int, refill: int) -> None:
    rule = Rule(RuleName.CERTIFICATES_PER_SET, 3, timedelta(seconds=refill))
    place = given_back % len(pauses)
    with_it = without_it = Bucket(rule.name, "x", full_at=NOW)
    now, spent_at = NOW, NOW
    for number, pause in enumerate(pauses):
        now += timedelta(seconds=pause)
        with_it = with_it.spend(rule, now=now)
        if number == place:
            spent_at = now
        else:
            without_it = without_it.spend(rule, now=now)
    after = with_it.give_back(rule, spent_at=spent_at, now=now)
    assert max(after.full_at, now) >= max(without_it.full_at, now)
    assert after.full_at <= with_it.full_at
    if spent_at == now and place == len(pauses) - 1:
        assert max(after.full_at, now) == max(without_it.full_at, now), "at once it is all of it"

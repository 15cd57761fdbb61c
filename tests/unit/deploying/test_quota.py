"""What a provider allows only so often, on SQLite and on PostgreSQL."""

import asyncio
from datetime import timedelta

import pytest

from certorbit.deploying.quota import StoredQuota
from certorbit.errors import RetryRule, TargetFull
from certorbit.storage import SQLStore
from fakes.clock import START, FakeClock

EU = "123456789012/eu-central-1"


async def spend(quota: StoredQuota, *, account: str = EU, kind: str = "acm-import", limit: int = 3) -> bool:
    try:
        await quota.spend(account, kind, limit=limit, days=365)
    except TargetFull:
        return False
    return True


async def test_so_many_uses_fit_and_no_more(store: SQLStore, clock: FakeClock) -> None:
    quota = StoredQuota(store=store, clock=clock)
    assert [await spend(quota) for _ in range(5)] == [True, True, True, False, False]
    assert await spend(quota, account="123456789012/us-east-1")
    assert await spend(quota, kind="other")
    assert await spend(quota, limit=4)  # the provider has raised it


async def test_a_use_is_free_again_when_its_time_is_over(store: SQLStore, clock: FakeClock) -> None:
    quota = StoredQuota(store=store, clock=clock)
    assert await spend(quota)
    clock.advance(days=10)
    assert [await spend(quota) for _ in range(3)] == [True, True, False]
    clock.advance(days=354, hours=23, minutes=59)
    assert not await spend(quota)
    clock.advance(minutes=1)
    assert [await spend(quota) for _ in range(2)] == [True, False]


async def test_who_finds_it_full_is_told_when_the_next_use_is_free(store: SQLStore, clock: FakeClock) -> None:
    quota = StoredQuota(store=store, clock=clock)
    await spend(quota, limit=2)
    clock.advance(hours=1)
    await spend(quota, limit=2)
    clock.advance(hours=1)
    with pytest.raises(TargetFull, match=r"eu-central-1 has used all 2 of acm-import .* free at 2027-11-24 12:00 UTC"):
        await quota.spend(EU, "acm-import", limit=2, days=365)
    with pytest.raises(TargetFull) as refusal:  # the quota was lowered: both must be over
        await quota.spend(EU, "acm-import", limit=1, days=365)
    assert refusal.value.retry.rule is RetryRule.AT
    assert refusal.value.retry.at == START + timedelta(days=365, hours=1)


async def test_a_refused_use_is_not_counted(store: SQLStore, clock: FakeClock) -> None:
    quota = StoredQuota(store=store, clock=clock)
    assert [await spend(quota, limit=1) for _ in range(3)] == [True, False, False]
    assert await store.read(lambda tx: tx.quotas.count(EU, "acm-import", since=START)) == 1


async def test_of_many_at_once_as_many_as_fit_get_one(store: SQLStore, clock: FakeClock) -> None:
    quota = StoredQuota(store=store, clock=clock)
    outcomes = await asyncio.gather(*(spend(quota, limit=4) for _ in range(16)))
    assert sum(outcomes) == 4

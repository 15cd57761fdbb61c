"""Heartbeats and the reaper, on PostgreSQL. The database's clock is real; the worker's own is the test's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from engine_parts import PATIENCE, enqueue, job, make_engine, statuses

from certorbit.clock import SystemClock
from certorbit.workflows import executors
from certorbit.workflows.engine_schema import parse_database
from certorbit.workflows.executors import Tables
from certorbit.workflows.lease import HeartbeatLease
from fakes.clock import FakeClock
from postgres import PostgresServer

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TABLES = Tables("dbos")
MakeLease = Callable[..., HeartbeatLease]


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[sa.Engine]:
    make_engine(postgres_url).close()
    pool = parse_database(postgres_url).connect(pool_size=3)
    yield pool
    pool.dispose()


@pytest.fixture
def make_lease(pool: sa.Engine) -> MakeLease:
    def make(executor: str = "me", *, ttl_seconds: float = 3600.0, clock: FakeClock | None = None) -> HeartbeatLease:
        ttl = timedelta(seconds=ttl_seconds)
        return HeartbeatLease(pool, TABLES, executor=executor, ttl=ttl, clock=clock or FakeClock())

    return make


def hold_work(url: str, *workflows: str, executor: str) -> None:
    """Let it look as if the executor were running these operations."""
    engine = make_engine(url)
    enqueue(engine, url, *(job(workflow) for workflow in workflows))
    engine.close()
    with parse_database(url).connect(pool_size=1).begin() as connection:
        connection.execute(
            sa.update(TABLES.status)
            .where(TABLES.status.c.workflow_uuid.in_([f"{workflow}.1" for workflow in workflows]))
            .values(status="PENDING", executor_id=executor, owner_xid="token", application_name="certorbit")
        )


def owner_of(pool: sa.Engine, workflow: str) -> str | None:
    with pool.connect() as connection:
        return executors.find_owner(connection, TABLES, workflow)


async def test_no_step_begins_on_a_stale_heartbeat(make_lease: MakeLease) -> None:
    clock = FakeClock()
    lease = make_lease(ttl_seconds=45.0, clock=clock)
    await lease.start(host="here")
    await lease.hold()
    clock.advance(29.0)
    await lease.hold()
    clock.advance(2.0)  # more than two thirds of the TTL
    holding = asyncio.create_task(lease.hold())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not holding.done()
    assert await lease.beat()
    async with asyncio.timeout(PATIENCE):
        await holding
    await lease.end()


async def test_a_worker_that_was_declared_dead_learns_it_from_its_next_heartbeat(
    make_lease: MakeLease, pool: sa.Engine
) -> None:
    lease = make_lease()
    await lease.start(host="here")
    assert await lease.beat()
    with pool.begin() as connection:
        executors.unregister_worker(connection, executor="me")
    assert not await lease.beat()


async def test_a_database_that_is_away_is_no_answer(postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database()
    make_engine(postgres_server.url(name)).close()
    pool = parse_database(postgres_server.url(name)).connect(pool_size=1)
    lease = HeartbeatLease(pool, TABLES, executor="me", ttl=timedelta(hours=1), clock=FakeClock())
    await lease.start(host="here")
    postgres_server.drop_database(name)
    assert await lease.beat()
    assert await lease.reap() == 0
    await lease.end()
    pool.dispose()


async def test_the_dead_are_judged_after_a_ttl_of_regular_heartbeats_only(
    make_lease: MakeLease, postgres_url: str
) -> None:
    hold_work(postgres_url, "held", executor="gone")
    lease = make_lease(ttl_seconds=0.4)
    await lease.start(host="here")
    assert await lease.reap() == 0
    released = beats = 0
    async with asyncio.timeout(PATIENCE):
        while not released:
            await SystemClock().sleep(0.02)
            assert await lease.beat()
            beats += 1
            released = await lease.reap()
    assert released == 1
    assert beats > 1
    assert statuses(postgres_url) == {"held.1": "ENQUEUED"}

    hold_work(postgres_url, "again", executor="gone, too")
    await SystemClock().sleep(0.25)  # as long as an outage: more than half of the TTL without a heartbeat
    assert await lease.beat()
    assert await lease.reap() == 0
    await lease.end()


async def test_only_what_the_dead_hold_is_released(pool: sa.Engine, postgres_url: str) -> None:
    hold_work(postgres_url, "mine", executor="me")
    hold_work(postgres_url, "stale", executor="silent")
    hold_work(postgres_url, "unknown", executor="nobody")
    with pool.begin() as connection:
        executors.register_worker(connection, executor="me", host="here")
        executors.register_worker(connection, executor="silent", host="there")
        long_ago = sa.text(
            "UPDATE dbos.certorbit_executors SET seen_at = now() - interval '1 hour' WHERE host = 'there'"
        )
        connection.execute(long_ago)
        assert executors.reap(connection, TABLES, ttl=timedelta(minutes=1), now=NOW) == 2
    assert statuses(postgres_url) == {"mine.1": "PENDING", "stale.1": "ENQUEUED", "unknown.1": "ENQUEUED"}
    assert [owner_of(pool, f"{name}.1") for name in ("mine", "stale", "unknown")] == ["token", None, None]
    with pool.begin() as connection:
        assert executors.beat(connection, executor="silent") is None


async def test_one_process_at_a_time_judges(pool: sa.Engine, postgres_url: str) -> None:
    hold_work(postgres_url, "held", executor="gone")
    with pool.begin() as other, pool.begin() as connection:
        other.execute(sa.select(sa.func.pg_advisory_xact_lock(executors.REAPER_LOCK)))
        assert executors.reap(connection, TABLES, ttl=timedelta(minutes=1), now=NOW) == 0
    assert statuses(postgres_url) == {"held.1": "PENDING"}


async def test_a_worker_that_leaves_gives_back_what_it_holds(
    make_lease: MakeLease, pool: sa.Engine, postgres_url: str
) -> None:
    lease = make_lease("me")
    await lease.start(host="here")
    hold_work(postgres_url, "held", executor="me")
    await lease.end()
    assert statuses(postgres_url) == {"held.1": "ENQUEUED"}
    with pool.begin() as connection:
        assert executors.beat(connection, executor="me") is None

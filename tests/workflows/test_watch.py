"""Waiting for operations, with a store in memory and the test's clock."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar, cast

import pytest
from engine_parts import PATIENCE

from certorbit.errors import NotFound, Unreachable
from certorbit.model.operation import Operation, OperationID, OperationState
from certorbit.ports.store import Store, UnitOfWork
from certorbit.workflows.watch import LEAST_PAUSE_SECONDS, Watch
from fakes.clock import START, FakeClock
from records import make_operation

T = TypeVar("T")


class Operations:
    """The two queries that a watch makes; `queries` counts them."""

    def __init__(self) -> None:
        self.rows: dict[OperationID, Operation] = {}
        self.queries: list[tuple[str, int]] = []
        self.is_away = False
        self.seen = asyncio.Event()

    @property
    def operations(self) -> "Operations":
        return self

    def list_states(self, wanted: Sequence[OperationID]) -> dict[OperationID, OperationState]:
        self.queries.append(("list_states", len(wanted)))
        self.seen.set()
        if self.is_away:
            raise Unreachable("no answer", subject="db", phase="database")
        return {one: self.rows[one].state for one in wanted if one in self.rows}

    def find(self, wanted: OperationID) -> Operation | None:
        self.queries.append(("find", 1))
        return self.rows.get(wanted)

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        return work(cast("UnitOfWork", self))

    def put(self, name: str, state: OperationState, *, retry_in: float | None = None) -> Operation:
        row = replace(
            make_operation(name),
            state=state,
            next_attempt_at=None if retry_in is None else START + timedelta(seconds=retry_in),
        )
        self.rows[row.id] = row
        return row

    async def be_looked_at(self) -> None:
        self.seen.clear()
        async with asyncio.timeout(PATIENCE):
            await self.seen.wait()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def pass_time(clock: FakeClock, seconds: float) -> None:
    clock.advance(seconds)
    await settle()


@pytest.fixture
def operations() -> Operations:
    return Operations()


@pytest.fixture
def watch(operations: Operations, clock: FakeClock) -> Watch:
    return Watch(store=cast("Store", operations), clock=clock)


@pytest.mark.parametrize("state", [state for state in OperationState if state.is_final])
async def test_a_final_operation_is_returned_at_once(
    watch: Watch, operations: Operations, state: OperationState
) -> None:
    row = operations.put("op", state)
    assert await watch.wait(row.id, seconds=20.0) == row


async def test_a_wait_of_no_time_looks_once(watch: Watch, operations: Operations) -> None:
    row = operations.put("op", OperationState.RUNNING)
    assert await watch.wait(row.id, seconds=0.0) == row
    assert operations.queries == [("find", 1)]


async def test_the_wait_ends_with_its_time(watch: Watch, operations: Operations, clock: FakeClock) -> None:
    row = operations.put("op", OperationState.RUNNING)
    waiting = asyncio.create_task(watch.wait(row.id, seconds=20.0))
    await operations.be_looked_at()
    await pass_time(clock, 19.9)
    assert not waiting.done()
    await pass_time(clock, 0.2)
    assert await waiting == row


async def test_an_end_is_seen_by_the_next_look(watch: Watch, operations: Operations, clock: FakeClock) -> None:
    row = operations.put("op", OperationState.QUEUED)
    waiting = asyncio.create_task(watch.wait(row.id, seconds=20.0))
    await operations.be_looked_at()
    done = operations.put("op", OperationState.SUCCEEDED)
    for _ in range(4):
        await pass_time(clock, 0.1)
    assert waiting.done()
    assert await waiting == done


async def test_a_notice_makes_it_look_at_once(watch: Watch, operations: Operations, clock: FakeClock) -> None:
    row = operations.put("op", OperationState.RUNNING)
    waiting = asyncio.create_task(watch.wait(row.id, seconds=20.0))
    await operations.be_looked_at()
    await pass_time(clock, LEAST_PAUSE_SECONDS)
    done = operations.put("op", OperationState.FAILED)
    watch.notify(row.id)
    await settle()
    assert waiting.done()
    assert await waiting == done


async def test_many_who_wait_share_one_query(watch: Watch, operations: Operations, clock: FakeClock) -> None:
    rows = [operations.put(f"op{number}", OperationState.RUNNING) for number in range(50)]
    waiting = [asyncio.create_task(watch.wait(row.id, seconds=20.0)) for row in rows for _ in range(2)]
    await settle()
    assert operations.queries == [("list_states", 50)]
    done = [operations.put(f"op{number}", OperationState.SUCCEEDED) for number in range(50)]
    await pass_time(clock, 0.5)
    await pass_time(clock, 0.5)
    assert [await one for one in waiting] == [row for row in done for _ in range(2)]


async def test_an_attempt_that_starts_after_the_wait_is_not_waited_for(watch: Watch, operations: Operations) -> None:
    row = operations.put("op", OperationState.WAITING, retry_in=20.5)
    assert await watch.wait(row.id, seconds=20.0) == row


async def test_an_attempt_that_starts_within_the_wait_is_waited_for(
    watch: Watch, operations: Operations, clock: FakeClock
) -> None:
    row = operations.put("op", OperationState.WAITING, retry_in=3.0)
    waiting = asyncio.create_task(watch.wait(row.id, seconds=20.0))
    await operations.be_looked_at()
    assert not waiting.done()
    done = operations.put("op", OperationState.SUCCEEDED)
    await pass_time(clock, 0.5)
    await pass_time(clock, 0.5)
    assert await waiting == done


async def test_an_unknown_operation_is_not_found(watch: Watch) -> None:
    with pytest.raises(NotFound, match="no operation nowhere"):
        await watch.wait(OperationID("nowhere"), seconds=20.0)
    with pytest.raises(NotFound, match="no operation nowhere"):
        await watch.wait(OperationID("nowhere"), seconds=0.0)


async def test_a_database_that_is_away_for_a_moment_does_not_end_the_wait(
    watch: Watch, operations: Operations, clock: FakeClock
) -> None:
    row = operations.put("op", OperationState.RUNNING)
    operations.is_away = True
    waiting = asyncio.create_task(watch.wait(row.id, seconds=20.0))
    await operations.be_looked_at()
    operations.is_away = False
    done = operations.put("op", OperationState.SUCCEEDED)
    await pass_time(clock, 0.5)
    await pass_time(clock, 0.5)
    assert await waiting == done


async def test_nobody_looks_when_nobody_waits(watch: Watch, operations: Operations, clock: FakeClock) -> None:
    row = operations.put("op", OperationState.RUNNING)
    waiting = asyncio.create_task(watch.wait(row.id, seconds=20.0))
    await operations.be_looked_at()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await pass_time(clock, 0.5)
    await pass_time(clock, 0.5)
    looks = len(operations.queries)
    await pass_time(clock, 60.0)
    assert len(operations.queries) == looks
    assert clock.sleepers == 0


async def test_a_closed_watch_looks_no_more(watch: Watch, operations: Operations, clock: FakeClock) -> None:
    row = operations.put("op", OperationState.RUNNING)
    waiting = asyncio.create_task(watch.wait(row.id, seconds=20.0))
    await operations.be_looked_at()
    await watch.close()
    looks = len(operations.queries)
    await pass_time(clock, 21.0)
    assert await waiting == row
    assert operations.queries[looks:] == [("find", 1)]

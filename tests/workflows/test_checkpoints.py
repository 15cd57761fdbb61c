"""Batches: many writes in one transaction, each with its own answer. And who may record a checkpoint."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from engine_parts import PATIENCE, enqueue, job, make_engine

from certorbit.workflows import executors
from certorbit.workflows.checkpoints import Batches
from certorbit.workflows.engine_schema import parse_database
from certorbit.workflows.executors import Recorded, Tables
from certorbit.workflows.recorder import Recorder
from certorbit.workflows.transact import Call, Checkpoint, Verdict
from fakes.clock import FakeChance, FakeClock


class Writer:
    """A blocking function whose first call waits until it is let go."""

    def __init__(self, *, bad: str = "", away: int = 0) -> None:
        self.calls: list[list[str]] = []
        self.go_on = threading.Event()
        self.begun = threading.Event()
        self._bad = bad
        self._away = away

    def __call__(self, items: Sequence[str]) -> list[str]:
        self.calls.append(list(items))
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        if self._away:
            self._away -= 1
            raise sa.exc.OperationalError("COMMIT", {}, Exception("server closed the connection"))
        if self._bad in items:
            raise sa.exc.DataError("INSERT", {}, Exception("bad value"))
        return [item.upper() for item in items]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield pool


@pytest.fixture
def make_batches(threads: ThreadPoolExecutor) -> Callable[[Writer], Batches[str, str]]:
    def make(writer: Writer) -> Batches[str, str]:
        return Batches(writer, threads=threads, clock=FakeClock(auto_advance=True), chance=FakeChance())

    return make


MakeBatches = Callable[[Writer], Batches[str, str]]


async def submit_behind(writer: Writer, batches: Batches[str, str], *items: str) -> list[asyncio.Task[str]]:
    """Submit "first", and while that is written the items; then let the writer go on."""
    tasks = [asyncio.create_task(batches.submit("first"))]
    await asyncio.to_thread(writer.begun.wait, PATIENCE)
    tasks += [asyncio.create_task(batches.submit(item)) for item in items]
    await asyncio.sleep(0)
    writer.go_on.set()
    return tasks


async def test_what_comes_while_a_batch_is_written_goes_into_the_next_one(make_batches: MakeBatches) -> None:
    writer = Writer()
    tasks = await submit_behind(writer, make_batches(writer), "a", "b", "c")
    assert await asyncio.gather(*tasks) == ["FIRST", "A", "B", "C"]
    assert writer.calls == [["first"], ["a", "b", "c"]]


async def test_one_bad_item_fails_alone(make_batches: MakeBatches) -> None:
    writer = Writer(bad="b")
    tasks = await submit_behind(writer, make_batches(writer), "a", "b", "c")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == ["FIRST", "A", "C"]
    assert isinstance(answers[2], sa.exc.DataError)


async def test_while_the_database_is_away_everything_waits(make_batches: MakeBatches) -> None:
    writer = Writer(away=3)
    tasks = await submit_behind(writer, make_batches(writer), "a")
    assert await asyncio.gather(*tasks) == ["FIRST", "A"]
    assert writer.calls == [["first"]] * 4 + [["a"]]


async def test_an_item_is_written_although_its_submitter_is_cancelled(make_batches: MakeBatches) -> None:
    writer = Writer()
    batches = make_batches(writer)
    tasks = [asyncio.create_task(batches.submit("first"))]
    await asyncio.to_thread(writer.begun.wait, PATIENCE)
    tasks.append(asyncio.create_task(batches.submit("a")))
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    assert [type(e) for e in await asyncio.gather(*tasks, return_exceptions=True)] == [asyncio.CancelledError] * 2
    writer.go_on.set()
    await batches.close(seconds=PATIENCE)
    assert writer.calls == [["first"], ["a"]]


async def test_closing_gives_up_in_the_end(make_batches: MakeBatches) -> None:
    writer = Writer()
    batches = make_batches(writer)
    tasks = [asyncio.create_task(batches.submit("first"))]
    await asyncio.to_thread(writer.begun.wait, PATIENCE)
    tasks.append(asyncio.create_task(batches.submit("a")))
    await asyncio.sleep(0)
    await batches.close(seconds=0.0)
    writer.go_on.set()
    assert [type(e) for e in await asyncio.gather(*tasks, return_exceptions=True)] == [asyncio.CancelledError] * 2


async def test_only_the_owner_of_a_workflow_records(empty_database_url: str) -> None:
    """What keeps a worker that was declared dead from writing, in the form that DBOS 3.4 gives it."""
    url = empty_database_url
    engine = make_engine(url)
    enqueue(engine, url, job("op"), job("other"))
    engine.close()
    database = parse_database(url)
    pool, tables = database.connect(pool_size=1), Tables(database.schema)
    with pool.begin() as connection:
        connection.execute(sa.update(tables.status).values(status="PENDING", executor_id="x", owner_xid="token"))

    def checkpoint(operation: str, *, owner: str = "token", place: int = 1, finished_ms: int = 2) -> Checkpoint:
        call = Call(f"{operation}.1", owner, operation, 1)
        return Checkpoint(call=call, place=place, name="step", outcome='{"a":1}', started_ms=1, finished_ms=finished_ms)

    recorder = Recorder(pool)
    batch = [checkpoint("op", owner="late"), checkpoint("op"), checkpoint("gone"), checkpoint("other", place=2)]
    expected = [Verdict.SUPERSEDED, Verdict.RECORDED, Verdict.SUPERSEDED, Verdict.RECORDED]
    assert recorder.record(batch) == expected
    assert recorder.record(batch) == expected  # as after a commit whose answer was lost
    assert recorder.record([checkpoint("op", finished_ms=3)]) == [Verdict.TAKEN]
    with pool.begin() as connection:
        step = Recorded(name="step", outcome='{"a":1}')
        assert executors.load_checkpoints(connection, tables, ["op.1", "other.1", "gone.1"]) == {
            "op.1": {1: step},
            "other.1": {2: step},
            "gone.1": {},
        }
    pool.dispose()

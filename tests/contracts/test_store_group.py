"""Writes that share a commit on SQLite: each has its own fate."""

import asyncio
import threading
from pathlib import Path

import pytest

from certorbit.errors import BadInput, Broken
from certorbit.model.entry import ConfigID, Configuration
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore, make_engine, migrate
from fakes.clock import FakeChance, FakeClock
from records import NOW


@pytest.fixture
async def sqlite_store(tmp_path: Path):
    engine = make_engine(f"sqlite:///{tmp_path / 'group.db'}")
    migrate(engine)
    store = SQLStore(engine, clock=FakeClock(auto_advance=True), chance=FakeChance())
    yield store
    await store.close()


def adding(name: str, *, error: BaseException | None = None):
    def work(tx: UnitOfWork) -> str:
        tx.configurations.add(Configuration(id=ConfigID(name), description="", version=1, date=NOW))
        if error is not None:
            raise error
        return name

    return work


async def names(store: SQLStore) -> set[str]:
    return {configuration.id for configuration in await store.read(lambda tx: tx.configurations.list())}


async def test_one_that_is_refused_leaves_nothing_and_takes_nobody_with_it(sqlite_store: SQLStore) -> None:
    works = [adding(f"c{i}", error=BadInput("no") if i % 5 == 0 else None) for i in range(40)]
    results = await asyncio.gather(*(sqlite_store.write(work) for work in works), return_exceptions=True)
    for i, result in enumerate(results):
        assert isinstance(result, BadInput) if i % 5 == 0 else result == f"c{i}"
    assert await names(sqlite_store) == {f"c{i}" for i in range(40) if i % 5}


async def test_a_bug_in_one_reaches_its_caller_alone(sqlite_store: SQLStore) -> None:
    works = [adding("good"), adding("bad", error=ZeroDivisionError()), adding("fine")]
    results = await asyncio.gather(*(sqlite_store.write(work) for work in works), return_exceptions=True)
    assert [type(result) for result in results] == [str, ZeroDivisionError, str]
    assert await names(sqlite_store) == {"good", "fine"}


async def test_what_is_written_while_a_commit_runs_shares_the_next_one(sqlite_store: SQLStore) -> None:
    begun, go_on = threading.Event(), threading.Event()
    transactions: list[object] = []

    def blocking(tx: UnitOfWork) -> None:
        begun.set()
        assert go_on.wait(30)

    def noting(tx: UnitOfWork) -> None:
        transactions.append(tx.configurations._transaction.connection)  # type: ignore[attr-defined]

    first = asyncio.create_task(sqlite_store.write(blocking))
    await asyncio.to_thread(begun.wait, 30)
    others = [asyncio.create_task(sqlite_store.write(noting)) for _ in range(10)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, *others)
    assert len(transactions) == 10
    assert len({id(connection) for connection in transactions}) == 1


async def test_one_that_is_cancelled_before_its_turn_writes_nothing(sqlite_store: SQLStore) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def blocking(tx: UnitOfWork) -> None:
        begun.set()
        assert go_on.wait(30)

    first = asyncio.create_task(sqlite_store.write(blocking))
    await asyncio.to_thread(begun.wait, 30)
    late = asyncio.create_task(sqlite_store.write(adding("late")))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await first
    assert (await asyncio.gather(late, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert await sqlite_store.write(adding("next")) == "next"
    assert await names(sqlite_store) == {"next"}


async def test_a_full_group_that_breaks_the_rules_is_still_told_apart(sqlite_store: SQLStore) -> None:
    """Two inserts of one name in one transaction: the first is kept, the second is a lost race until it gives up."""
    results = await asyncio.gather(*(sqlite_store.write(adding("same")) for _ in range(3)), return_exceptions=True)
    assert [result for result in results if result == "same"] == ["same"]
    assert not any(isinstance(result, Broken) for result in results)
    assert await names(sqlite_store) == {"same"}

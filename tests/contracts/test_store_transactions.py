"""`ports.store.Store`, its transactions: atomic, isolated, repeated after a lost race, honest about failures."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from certorbit.errors import Broken, CertorbitError, LostRace, NotFound, RetryRule, Unreachable
from certorbit.model.entry import ConfigID, Entry, EntryID
from certorbit.model.operation import OperationID, OperationState
from certorbit.ports.store import Job, UnitOfWork
from certorbit.storage import SQLStore, make_engine
from certorbit.storage.store import MOST_TRIES
from fakes.clock import FakeChance, FakeClock
from postgres import PostgresServer
from records import NOW, PROD, make_configuration, make_entry, make_operation, make_version

JOB = Job(workflow_id="o1.1", operation=OperationID("o1"), attempt=1, priority=10)


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    return store


def open_store(url: str) -> SQLStore:
    return SQLStore(make_engine(url), clock=FakeClock(auto_advance=True), chance=FakeChance())


@pytest.fixture
async def postgres_store(postgres_url: str) -> AsyncIterator[SQLStore]:
    store = open_store(postgres_url)
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    yield store
    await store.close()


@pytest.fixture
async def sqlite_store(sqlite_url: str) -> AsyncIterator[SQLStore]:
    store = open_store(sqlite_url)
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    yield store
    await store.close()


async def list_ids(store: SQLStore) -> list[EntryID]:
    return [entry.id for entry in await store.read(lambda tx: tx.entries.list(PROD))]


class OutOfCheeseError(Exception):
    """Nothing that the store knows."""


@pytest.mark.parametrize(
    "error", [NotFound("no"), OutOfCheeseError(), KeyboardInterrupt()], ids=["ours", "any", "base"]
)
async def test_an_exception_rolls_everything_back_and_comes_out_as_it_is(prod: SQLStore, error: BaseException) -> None:
    def work(tx: UnitOfWork) -> None:
        tx.entries.add(make_entry("shop"))
        tx.operations.add(make_operation("o1"))
        raise error

    with pytest.raises(type(error)) as caught:
        await prod.write(work)
    assert caught.value is error
    assert await list_ids(prod) == []
    assert await prod.read(lambda tx: tx.operations.find(OperationID("o1"))) is None


async def test_a_refused_statement_rolls_back_what_came_before_it(prod: SQLStore) -> None:
    await prod.write(lambda tx: tx.operations.add(make_operation("o1")))

    def work(tx: UnitOfWork) -> None:
        tx.entries.add(make_entry("shop"))
        tx.operations.add(make_operation("o1"))

    with pytest.raises(LostRace):
        await prod.write(work)
    assert await list_ids(prod) == []


async def test_a_write_returns_what_its_function_returns(prod: SQLStore) -> None:
    assert await prod.write(lambda tx: len(tx.configurations.list())) == 1


async def test_a_function_that_was_to_read_only_is_stopped_when_it_writes(prod: SQLStore) -> None:
    with pytest.raises(Broken, match="was to read only has written"):
        await prod.read(lambda tx: tx.entries.add(make_entry("shop")))
    assert await list_ids(prod) == []


async def test_a_read_sees_one_snapshot(prod: SQLStore, database_url: str) -> None:
    other = open_store(database_url)
    first_look, second_wrote = threading.Event(), threading.Event()

    def look_twice(tx: UnitOfWork) -> tuple[int, int]:
        before = len(tx.entries.list(PROD))
        first_look.set()
        assert second_wrote.wait(20)
        return before, len(tx.entries.list(PROD))

    async def write_between() -> None:
        assert await asyncio.to_thread(first_look.wait, 20)
        await other.write(lambda tx: tx.entries.add(make_entry("shop")))
        second_wrote.set()

    # On a thread with a loop of its own: on SQLite a read runs where it is awaited.
    reading = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(prod.read(look_twice))))
    await write_between()
    assert await reading == (0, 0)
    assert await list_ids(prod) == ["shop"]
    await other.close()


async def test_of_ten_writers_at_once_none_is_lost(prod: SQLStore) -> None:
    def add(name: str, tx: UnitOfWork) -> None:
        if tx.entries.find(PROD, EntryID(name)) is None:
            tx.entries.add(make_entry(name))
        tx.configurations.record(PROD, [], by="test", now=NOW)

    names = [f"e{number}" for number in range(10)]
    for _ in range(5):  # the same ten again: as clients resend
        await asyncio.gather(*(prod.write(lambda tx, name=name: add(name, tx)) for name in names))  # type: ignore[misc]
    assert await list_ids(prod) == names
    configuration = await prod.read(lambda tx: tx.configurations.find(PROD))
    assert configuration is not None
    assert configuration.version == 1 + 50


async def test_the_loser_of_a_race_runs_again_and_sees_the_winner(postgres_store: SQLStore) -> None:
    both_looked = threading.Barrier(2, timeout=20)
    runs: list[bool] = []

    def add_unless_there(tx: UnitOfWork) -> str:
        is_first_run = len(runs) < 2
        found = tx.entries.find(PROD, EntryID("shop"))
        runs.append(found is not None)
        if is_first_run:
            both_looked.wait()
        if found is not None:
            return "found"
        tx.entries.add(make_entry("shop"))
        return "added"

    outcomes = await asyncio.gather(*(postgres_store.write(add_unless_there) for _ in range(2)))
    assert sorted(outcomes) == ["added", "found"]
    assert runs == [False, False, True]


async def test_a_lost_race_is_repeated_until_it_is_won(prod: SQLStore) -> None:
    await prod.write(lambda tx: tx.entries.add(make_entry("shop")))
    tries = 0

    def add_blindly_at_first(tx: UnitOfWork) -> Entry | None:
        nonlocal tries
        tries += 1
        if tries < MOST_TRIES:
            tx.entries.add(make_entry("shop"))
        return tx.entries.find(PROD, EntryID("shop"))

    assert await prod.write(add_blindly_at_first) is not None
    assert tries == MOST_TRIES


async def test_a_race_that_is_lost_for_ever_ends(prod: SQLStore) -> None:
    tries = 0

    def lose(_tx: UnitOfWork) -> None:
        nonlocal tries
        tries += 1
        raise LostRace("as always")

    with pytest.raises(LostRace, match="as always"):
        await prod.write(lose)
    assert tries == MOST_TRIES


async def test_the_pauses_between_tries_grow_within_their_bound_and_their_patience(database_url: str) -> None:
    clock = FakeClock(auto_advance=True)
    store = SQLStore(make_engine(database_url), clock=clock, chance=FakeChance(1.0))

    def lose(_tx: UnitOfWork) -> None:
        raise LostRace("as always")

    with pytest.raises(LostRace):
        await store.write(lose)
    assert clock.slept == [0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25]
    clock.slept.clear()

    def lose_slowly(_tx: UnitOfWork) -> None:
        clock.advance(16)  # as long as a wait for a lock can take
        raise LostRace("as always")

    with pytest.raises(LostRace):
        await store.write(lose_slowly)
    assert clock.slept == [0.01]
    await store.close()


async def test_of_two_that_change_a_state_the_second_sees_the_first(postgres_store: SQLStore) -> None:
    await postgres_store.write(lambda tx: tx.operations.add(make_operation("o1")))
    first_has_lock, second_waits = threading.Event(), threading.Event()

    def finish(tx: UnitOfWork) -> None:
        operation = tx.operations.lock(OperationID("o1"))
        assert operation is not None
        first_has_lock.set()
        assert second_waits.wait(20)
        tx.operations.update(make_operation("o1", state=OperationState.SUCCEEDED))

    def look(tx: UnitOfWork) -> OperationState:
        operation = tx.operations.lock(OperationID("o1"))
        assert operation is not None
        return operation.state

    finishing = asyncio.create_task(postgres_store.write(finish))
    assert await asyncio.to_thread(first_has_lock.wait, 20)
    looking = asyncio.create_task(postgres_store.write(look))
    while not await asyncio.to_thread(count_lock_waits, postgres_store.engine):
        await asyncio.sleep(0)
    second_waits.set()
    await finishing
    assert await looking is OperationState.SUCCEEDED


def count_lock_waits(engine: sa.Engine) -> int:
    statement = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with engine.connect() as connection:
        return int(connection.execute(statement).scalar_one())


async def test_a_deadlock_is_repeated(postgres_store: SQLStore) -> None:
    for name in ("o1", "o2"):
        await postgres_store.write(lambda tx, name=name: tx.operations.add(make_operation(name)))  # type: ignore[misc]
    both_hold_one = threading.Barrier(2, timeout=20)
    runs: list[str] = []

    def lock_both(tx: UnitOfWork, first: str, second: str) -> None:
        is_first_run = runs.count(first) == 0
        runs.append(first)
        tx.operations.lock(OperationID(first))
        if is_first_run:
            both_hold_one.wait()
        tx.operations.lock(OperationID(second))

    await asyncio.gather(
        postgres_store.write(lambda tx: lock_both(tx, "o1", "o2")),
        postgres_store.write(lambda tx: lock_both(tx, "o2", "o1")),
    )
    # One is refused and comes again; on a busy machine it may be quicker than the one that waits, and be refused again.
    assert len(runs) >= 3


async def test_a_job_is_enqueued_in_the_transaction_itself(prod: SQLStore) -> None:
    with prod.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE jobs (workflow_id TEXT PRIMARY KEY)")

    def enqueue(connection: sa.Connection, job: Job) -> None:
        connection.execute(sa.text("INSERT INTO jobs VALUES (:id)"), {"id": job.workflow_id})

    def add(tx: UnitOfWork) -> None:
        tx.entries.add(make_entry("shop"))
        tx.enqueue(JOB)

    def add_and_fail(tx: UnitOfWork) -> None:
        add(tx)
        raise NotFound("no")

    def count_jobs() -> int:
        with prod.engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one())

    prod.connect_enqueue(enqueue)
    with pytest.raises(NotFound):
        await prod.write(add_and_fail)
    assert (count_jobs(), await list_ids(prod)) == (0, [])
    await prod.write(add)
    assert (count_jobs(), await list_ids(prod)) == (1, ["shop"])
    with pytest.raises(LostRace):  # what the enqueue raises is translated too
        await prod.write(lambda tx: tx.enqueue(JOB))


async def test_a_job_without_an_engine_is_a_bug(prod: SQLStore) -> None:
    with pytest.raises(Broken, match=r"o1\.1 can't be enqueued"):
        await prod.write(lambda tx: tx.enqueue(JOB))


async def test_a_restart_of_the_database_between_two_calls_is_not_noticed(
    postgres_store: SQLStore, postgres_server: PostgresServer
) -> None:
    for number in range(3):
        assert postgres_server.terminate_connections(str(postgres_store.engine.url.database))
        await postgres_store.write(lambda tx, number=number: tx.entries.add(make_entry(f"e{number}")))  # type: ignore[misc]
        assert postgres_server.terminate_connections(str(postgres_store.engine.url.database))
        assert len(await list_ids(postgres_store)) == number + 1


async def test_a_connection_that_is_killed_before_the_commit_is_replaced_and_the_work_repeated(
    postgres_store: SQLStore, postgres_server: PostgresServer
) -> None:
    tries = 0

    def work(tx: UnitOfWork) -> None:
        nonlocal tries
        tries += 1
        tx.entries.add(make_entry("shop"))
        if tries == 1:
            postgres_server.terminate_connections(str(postgres_store.engine.url.database))
        tx.entries.add(make_entry("blog"))

    await postgres_store.write(work)
    assert tries == 2
    assert await list_ids(postgres_store) == ["blog", "shop"]


async def test_a_commit_whose_outcome_is_unknown_is_not_repeated(
    postgres_store: SQLStore, postgres_server: PostgresServer
) -> None:
    tries = 0

    def work(tx: UnitOfWork) -> None:
        nonlocal tries
        tries += 1
        tx.entries.add(make_entry("shop"))
        postgres_server.terminate_connections(str(postgres_store.engine.url.database))

    with pytest.raises(Unreachable, match="can't be used now") as failure:
        await postgres_store.write(work)
    assert tries == 1
    assert (failure.value.phase, failure.value.retry.rule) == ("database", RetryRule.BACKOFF)
    await postgres_store.write(lambda tx: tx.configurations.record(PROD, [], by="test", now=NOW))


async def test_a_database_that_is_gone_is_unreachable_and_shows_no_password(postgres_server: PostgresServer) -> None:
    store = open_store(f"postgresql://postgres:geheim@/nowhere?host={postgres_server.socket_dir}")
    for call in (store.read, store.write):
        with pytest.raises(CertorbitError) as failure:
            await call(lambda tx: tx.configurations.list())
        assert isinstance(failure.value, Unreachable)
        assert failure.value.subject == f"nowhere at {postgres_server.socket_dir}"
        assert "geheim" not in failure.value.message
    await store.close()


async def test_a_full_disk_is_said_so_leaves_nothing_half_written_and_passes(sqlite_store: SQLStore) -> None:
    await sqlite_store.write(lambda tx: tx.entries.add(make_entry("before")))

    def limit_pages(extra: int | None) -> None:
        # Of the writer thread's connection: the pool gives the same one back to whoever asks alone.
        with sqlite_store.engine.connect() as connection:
            pages = int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
            connection.exec_driver_sql(f"PRAGMA max_page_count = {2**31 if extra is None else pages + extra}")

    def add_big(tx: UnitOfWork) -> None:
        entry = make_entry("big", uid="u-big")
        tx.entries.add(entry)
        for number in range(50):
            tx.entries.add_version(make_version("u-big", id=f"v{number}", sealed_key=b"x" * 100_000))

    limit_pages(10)
    with pytest.raises(Unreachable, match="the disk is full; make room") as failure:
        await sqlite_store.write(add_big)
    assert (failure.value.phase, failure.value.retry.rule) == ("database", RetryRule.BACKOFF)
    assert await list_ids(sqlite_store) == ["before"]
    limit_pages(None)
    await sqlite_store.write(add_big)
    assert await list_ids(sqlite_store) == ["before", "big"]


async def test_a_lock_held_by_another_program_is_a_lost_race(sqlite_store: SQLStore, sqlite_url: str) -> None:
    hasty = open_store(f"{sqlite_url}?timeout=0.01")
    other = sqlite3.connect(str(sqlite_store.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LostRace, match="locked by another writer"):
        await hasty.write(lambda tx: tx.entries.add(make_entry("shop")))
    assert await list_ids(hasty) == []  # readers don't wait for writers
    other.execute("ROLLBACK")
    await hasty.write(lambda tx: tx.entries.add(make_entry("shop")))
    other.close()
    await hasty.close()


async def test_a_file_that_is_no_database_is_broken(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all" * 1000)
    store = open_store(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(Broken, match="SQLITE_NOTADB"):
        await store.read(lambda tx: tx.configurations.find(ConfigID("prod")))
    await store.close()


async def test_a_cancelled_caller_leaves_the_transaction_to_its_end(prod: SQLStore) -> None:
    started, may_end = threading.Event(), threading.Event()

    def work(tx: UnitOfWork) -> None:
        tx.entries.add(make_entry("shop"))
        started.set()
        assert may_end.wait(20)

    writing = asyncio.create_task(prod.write(work))
    assert await asyncio.to_thread(started.wait, 20)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    may_end.set()
    await prod.write(lambda tx: tx.configurations.record(PROD, [], by="test", now=NOW))
    while await list_ids(prod) != ["shop"]:  # PostgreSQL: another thread
        await asyncio.sleep(0)

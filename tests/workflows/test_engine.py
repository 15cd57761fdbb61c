"""The engine in one process, on SQLite and on PostgreSQL."""

import asyncio
import importlib.metadata
from datetime import timedelta

import pytest
import sqlalchemy as sa
from engine_parts import (
    PATIENCE,
    Bugs,
    enqueue,
    job,
    list_steps,
    make_engine,
    rolled_back,
    statuses,
    transaction,
    working,
)

from certorbit.clock import SystemChance, SystemClock
from certorbit.errors import BadInput, Broken, Refused, Unreachable
from certorbit.model.operation import OperationID
from certorbit.workflows.engine import ISSUE, Engine, Flow


class Body:
    """A workflow body that takes steps and remembers what ran."""

    def __init__(self, *steps: str, expected: int = 1) -> None:
        self.steps = steps or ("first", "second")
        self.ran: list[tuple[str, str]] = []
        self.ended: list[str] = []
        self.all_ended = asyncio.Event()
        self._expected = expected

    async def __call__(self, flow: Flow, operation: OperationID, attempt: int) -> None:
        for name in self.steps:

            async def do(name: str = name) -> dict[str, object]:
                self.ran.append((operation, name))
                return {"outcome": "done", "step": name, "attempt": attempt}

            await flow.step(name, do)
        self.ended.append(operation)
        if len(self.ended) == self._expected:
            self.all_ended.set()


async def run_all(engine: Engine, body: Body) -> None:
    async with working(engine), asyncio.timeout(PATIENCE):
        await body.all_ended.wait()


async def test_a_workflow_runs_its_steps_once_and_they_can_be_read(empty_database_url: str) -> None:
    body = Body()
    engine = make_engine(empty_database_url, run=body)
    enqueue(engine, empty_database_url, job("op"))
    await run_all(engine, body)
    assert body.ran == [("op", "first"), ("op", "second")]

    steps = await list_steps(empty_database_url, "op", attempts=3)
    assert [(step.attempt, step.name) for step in steps] == [(1, "first"), (1, "second")]
    assert steps[0].outcome == {"outcome": "done", "step": "first", "attempt": 1}
    assert all(step.started_at and step.finished_at and step.started_at <= step.finished_at for step in steps)
    assert statuses(empty_database_url) == {"op.1": "SUCCESS"}


async def test_steps_of_several_attempts_are_read_in_order(empty_database_url: str) -> None:
    body = Body(expected=3)
    engine = make_engine(empty_database_url, run=body)
    enqueue(engine, empty_database_url, job("op", attempt=10), job("op", attempt=2), job("other", attempt=2))
    await run_all(engine, body)
    steps = await list_steps(empty_database_url, "op", attempts=10)
    assert [(step.attempt, step.name) for step in steps] == [
        (2, "first"),
        (2, "second"),
        (10, "first"),
        (10, "second"),
    ]
    assert len(await list_steps(empty_database_url, "op", attempts=9)) == 2


async def test_a_job_exists_only_if_the_transaction_is_committed(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    with transaction(empty_database_url) as connection:
        connection.execute(sa.text("CREATE TABLE ours (name TEXT)"))
    with rolled_back(empty_database_url) as connection:
        connection.execute(sa.text("INSERT INTO ours VALUES ('undone')"))
        engine.enqueue(connection, job("undone"))
    with transaction(empty_database_url) as connection:
        connection.execute(sa.text("INSERT INTO ours VALUES ('kept')"))
        engine.enqueue(connection, job("kept"))
    with transaction(empty_database_url) as connection:
        assert connection.execute(sa.text("SELECT name FROM ours")).scalars().all() == ["kept"]
    assert statuses(empty_database_url) == {"kept.1": "ENQUEUED"}
    engine.close()


async def test_enqueuing_again_is_harmless_in_one_transaction_and_in_another(empty_database_url: str) -> None:
    body = Body(expected=2)
    engine = make_engine(empty_database_url, run=body)
    enqueue(engine, empty_database_url, job("op"), job("op"))
    enqueue(engine, empty_database_url, job("op"), job("other"))
    await run_all(engine, body)
    assert sorted(body.ran) == [("op", "first"), ("op", "second"), ("other", "first"), ("other", "second")]
    engine = make_engine(empty_database_url)
    enqueue(engine, empty_database_url, job("op"))
    engine.close()
    assert statuses(empty_database_url) == {"op.1": "SUCCESS", "other.1": "SUCCESS"}


async def test_a_refused_job_leaves_the_transaction_usable(postgres_url: str) -> None:
    engine = make_engine(postgres_url)
    with transaction(postgres_url) as connection:
        with pytest.raises(Broken):
            engine.enqueue(connection, job("bad", priority=-1))
        engine.enqueue(connection, job("good"))
    engine.close()
    assert statuses(postgres_url) == {"good.1": "ENQUEUED"}


async def test_a_more_urgent_job_goes_first(empty_database_url: str) -> None:
    body = Body("only", expected=3)
    engine = make_engine(empty_database_url, run=body, max_in_flight=1)
    enqueue(engine, empty_database_url, job("c", priority=90), job("b", priority=50), job("a", priority=10))
    await run_all(engine, body)
    assert body.ended == ["a", "b", "c"]


async def test_a_delayed_job_waits_for_its_time(empty_database_url: str) -> None:
    body = Body("only")
    engine = make_engine(empty_database_url, run=body)
    enqueue(engine, empty_database_url, job("later", delay_seconds=3600), job("soon", delay_seconds=0.2))
    assert statuses(empty_database_url) == {"later.1": "DELAYED", "soon.1": "DELAYED"}
    await run_all(engine, body)
    assert body.ended == ["soon"]
    assert statuses(empty_database_url) == {"later.1": "DELAYED", "soon.1": "SUCCESS"}


async def test_no_more_run_at_once_than_allowed(empty_database_url: str) -> None:
    running = most = ended = 0
    all_ended = asyncio.Event()

    async def run(flow: Flow, operation: OperationID, attempt: int) -> None:
        nonlocal running, most, ended

        async def do() -> dict[str, object]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await SystemClock().sleep(0.01)
            running -= 1
            return {}

        await flow.step("only", do)
        ended += 1
        if ended == 12:
            all_ended.set()

    engine = make_engine(empty_database_url, run=run, max_in_flight=3)
    enqueue(engine, empty_database_url, *(job(f"op{number}") for number in range(12)))
    async with working(engine), asyncio.timeout(PATIENCE):
        await all_ended.wait()
    assert 1 < most <= 3


async def test_an_interrupted_step_runs_again_and_a_finished_one_does_not(empty_database_url: str) -> None:
    begun = asyncio.Event()
    bugs = Bugs()
    ran: list[str] = []

    async def hang(flow: Flow, operation: OperationID, attempt: int) -> None:
        async def first() -> dict[str, object]:
            ran.append("first")
            return {"number": 1}

        async def second() -> dict[str, object]:
            ran.append("second")
            begun.set()
            await asyncio.Event().wait()
            return {}

        await flow.step("first", first)
        await flow.step("second", second)

    engine = make_engine(empty_database_url, run=hang, bugs=bugs)
    enqueue(engine, empty_database_url, job("op"))
    async with working(engine, drain_seconds=0.0), asyncio.timeout(PATIENCE):
        await begun.wait()
    assert ran == ["first", "second"]
    assert bugs.told == []
    assert statuses(empty_database_url) == {"op.1": "ENQUEUED"}  # given back, for another worker or the next start

    body = Body()
    await _relaunch(empty_database_url, body)
    assert body.ran == [("op", "second")]
    assert statuses(empty_database_url) == {"op.1": "SUCCESS"}


async def _relaunch(url: str, body: Body) -> None:
    await run_all(make_engine(url, run=body), body)


async def test_an_engine_can_be_launched_again(empty_database_url: str) -> None:
    body = Body(expected=2)
    engine = make_engine(empty_database_url, run=body)
    await engine.launch()
    await engine.stop(drain_seconds=0.0)
    enqueue(engine, empty_database_url, job("one"), job("two"))
    await run_all(engine, body)
    assert sorted(body.ended) == ["one", "two"]


async def test_what_runs_is_let_end_when_the_engine_stops(empty_database_url: str) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    ran: list[str] = []

    async def run(flow: Flow, operation: OperationID, attempt: int) -> None:
        async def first() -> dict[str, object]:
            begun.set()
            await go_on.wait()
            return {}

        async def second() -> dict[str, object]:
            ran.append("second")
            return {}

        await flow.step("first", first)
        await flow.step("second", second)

    engine = make_engine(empty_database_url, run=run)
    enqueue(engine, empty_database_url, job("op"))
    await engine.launch()
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        stopping = asyncio.create_task(engine.stop(drain_seconds=PATIENCE))
        go_on.set()
        await stopping
    engine.close()
    assert ran == ["second"]
    assert statuses(empty_database_url) == {"op.1": "SUCCESS"}


async def test_a_wait_of_the_workflow_is_kept_over_a_restart(empty_database_url: str) -> None:
    slept: list[float] = []
    woken = asyncio.Event()

    class Watched(SystemClock):
        async def sleep(self, seconds: float) -> None:
            if seconds > 100:
                slept.append(seconds)
                woken.set()
            await super().sleep(seconds)

    async def run(flow: Flow, operation: OperationID, attempt: int) -> None:
        await flow.sleep(3600.0)

    for _ in range(2):
        woken.clear()
        engine = make_engine(empty_database_url, run=run, clock=Watched())
        enqueue(engine, empty_database_url, job("op"))
        async with working(engine, drain_seconds=0.0), asyncio.timeout(PATIENCE):
            await woken.wait()
        assert await list_steps(empty_database_url, "op") == []
    assert slept[1] < slept[0] <= 3600.0


async def test_loop_keeps_its_own_thread_pool(empty_database_url: str) -> None:
    body = Body()
    engine = make_engine(empty_database_url, run=body)
    enqueue(engine, empty_database_url, job("op"))
    await run_all(engine, body)
    assert await asyncio.to_thread(lambda: "works after the engine stopped") == "works after the engine stopped"


async def test_old_workflows_are_deleted_with_their_steps_and_newer_ones_stay(empty_database_url: str) -> None:
    body = Body(expected=2)
    engine = make_engine(empty_database_url, run=body)
    enqueue(engine, empty_database_url, job("old"), job("new"), job("waits", delay_seconds=3600))
    async with working(engine), asyncio.timeout(PATIENCE):
        await body.all_ended.wait()
    status = "workflow_status" if empty_database_url.startswith("sqlite") else "dbos.workflow_status"
    with transaction(empty_database_url) as connection:
        connection.execute(sa.text(f"UPDATE {status} SET completed_at = 1 WHERE workflow_uuid = 'old.1'"))
        connection.execute(sa.text(f"UPDATE {status} SET created_at = 1 WHERE workflow_uuid = 'waits.1'"))
    engine = make_engine(empty_database_url)
    assert await engine.clean_up() == 1
    assert await engine.clean_up() == 0
    assert set(statuses(empty_database_url)) == {"new.1", "waits.1"}
    assert await engine.list_steps(OperationID("old"), attempts=1) == []
    assert len(await engine.list_steps(OperationID("new"), attempts=1)) == 2
    assert await engine.clean_up(timedelta(0)) == 1
    assert set(statuses(empty_database_url)) == {"waits.1"}
    engine.close()


async def test_a_second_worker_on_one_sqlite_file_is_refused(sqlite_url: str) -> None:
    first = make_engine(sqlite_url, run=Body())
    second = make_engine(sqlite_url, run=Body())
    async with working(first):
        with pytest.raises(Refused, match=r"Another worker \(process \d+\) already runs on .*certorbit.db"):
            await second.launch()
    async with working(second):
        pass  # the lock went with the first worker


async def test_an_unprepared_database_is_refused(sqlite_url: str) -> None:
    engine = Engine(
        database_url=sqlite_url, clock=SystemClock(), chance=SystemChance(), max_in_flight=1, on_broken=Bugs()
    )
    engine.register(ISSUE, Body())
    with pytest.raises(Unreachable, match="is not prepared"):
        await engine.launch()
    engine.prepare()
    async with working(engine):
        pass


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///relative.db", "mysql://host/name", "nonsense"])
def test_only_sqlite_files_and_postgresql_are_taken(url: str) -> None:
    with pytest.raises(BadInput, match="database_url"):
        Engine(database_url=url, clock=SystemClock(), chance=SystemChance(), max_in_flight=1)


def test_dbos_is_the_version_whose_private_parts_we_know() -> None:
    version = importlib.metadata.version("dbos")
    assert version.startswith("3.4."), f"read transact.py and executors.py against dbos {version} first"

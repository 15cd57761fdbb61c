"""What the engine's tests share: an engine on a database, jobs in it, and a child process that works on them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from certorbit.clock import SystemChance, SystemClock
from certorbit.model.operation import OperationID, Step, workflow_id
from certorbit.ports.store import Job, JobKind
from certorbit.workflows.engine import ISSUE, Engine, Run
from certorbit.workflows.engine_schema import parse_database

PATIENCE = 60.0  # seconds until a test that hangs fails; nothing waits for as long when all is well
CHILD = Path(__file__).with_name("engine_child.py")


class Bugs:
    """The hook for broken workflows; fails as often as told before it works."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.told: list[tuple[str, int, str]] = []
        self.is_told = asyncio.Event()

    async def __call__(self, operation: OperationID, attempt: int, error_id: str) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the hook has a bug, too")
        self.told.append((operation, attempt, error_id))
        self.is_told.set()


def make_engine(
    url: str, *, run: Run | None = None, deploy: Run | None = None, bugs: Bugs | None = None, **options: Any
) -> Engine:
    """Return an engine whose tables exist. run, deploy: the workflows of the two kinds that it works on."""
    settings = {"max_in_flight": 20, "poll_seconds": 0.02, "heartbeat_seconds": 0.2, "ttl_seconds": 1.0} | options
    clock = settings.pop("clock", SystemClock())
    engine = Engine(database_url=url, clock=clock, chance=SystemChance(), on_broken=bugs or Bugs(), **settings)
    engine.prepare()
    if run is not None:
        engine.register(ISSUE, run)
    if deploy is not None:
        engine.register(JobKind.DEPLOY.value, deploy)
    return engine


@asynccontextmanager
async def working(engine: Engine, *, drain_seconds: float = 5.0) -> AsyncIterator[Engine]:
    """Let the engine work until the block ends."""
    await engine.launch()
    try:
        yield engine
    finally:
        await engine.stop(drain_seconds=drain_seconds)
        engine.close()


@contextmanager
def transaction(url: str) -> Iterator[sa.Connection]:
    pool = parse_database(url).connect(pool_size=1)
    try:
        with pool.begin() as connection:
            yield connection
    finally:
        pool.dispose()


@contextmanager
def rolled_back(url: str) -> Iterator[sa.Connection]:
    pool = parse_database(url).connect(pool_size=1)
    with pool.connect() as connection:
        yield connection
        connection.rollback()
    pool.dispose()


def job(
    operation: str,
    *,
    attempt: int = 1,
    priority: int = 10,
    delay_seconds: float = 0.0,
    kind: JobKind = JobKind.ISSUE,
) -> Job:
    one = OperationID(operation)
    return Job(workflow_id(one, attempt), one, attempt, priority, delay_seconds, kind)


def enqueue(engine: Engine, url: str, *jobs: Job) -> None:
    with transaction(url) as connection:
        for one in jobs:
            engine.enqueue(connection, one)


def statuses(url: str) -> dict[str, str]:
    """Return DBOS's status of each workflow."""
    table = "workflow_status" if url.startswith("sqlite") else "dbos.workflow_status"
    with transaction(url) as connection:
        rows = connection.execute(sa.text(f"SELECT workflow_uuid, status FROM {table}"))
        return {row[0]: row[1] for row in rows}


async def list_steps(url: str, operation: str, *, attempts: int = 1) -> list[Step]:
    """Read the steps as a process does that never launches."""
    engine = make_engine(url)
    try:
        return list(await engine.list_steps(OperationID(operation), attempts=attempts))
    finally:
        engine.close()


class Child:
    """A worker in a process of its own. Its lines: `ready`, `begin OP ATTEMPT STEP`, `done …`, `end OP ATTEMPT`."""

    def __init__(self, url: str, **options: Any) -> None:
        arguments = json.dumps({"url": url, **options})
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD), arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self) -> str:
        """Return the next line; "" when the child is dead and all is read."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def read_until(self, wanted: str) -> list[str]:
        """Return the lines up to the wanted one."""
        lines: list[str] = []
        while not lines or lines[-1] != wanted:
            line = self.read()
            assert line, f"the child ended before {wanted!r}; it said {lines[-5:]}"
            lines.append(line)
        return lines

    def kill(self) -> list[str]:
        """Kill -9; return what it had said before."""
        self._process.kill()
        return self._end()

    def finish(self) -> list[str]:
        """Let it stop as at a shutdown; return what it said until then."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._end()

    def suspend(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _end(self) -> list[str]:
        assert self._process.stdout is not None
        rest = [line.strip() for line in self._process.stdout]
        self._process.wait(timeout=PATIENCE)
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.stdout.close()
        return rest


def assert_no_finished_step_repeats(lines: Sequence[str]) -> None:
    """Fail if a step begins after it was done. Lines: of all processes, in order."""
    done: set[str] = set()
    for line in lines:
        word, _, step = line.partition(" ")
        if word == "done":
            done.add(step)
        assert not (word == "begin" and step in done), f"{step} ran again although it was finished"

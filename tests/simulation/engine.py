"""A workflow engine on simulated time, with the guarantees of the real one (workflows/flow.py) and with deaths."""

import heapq
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from world import Killed, World

from certorbit.model.operation import OperationID
from certorbit.ports.store import Job
from certorbit.workflows.flow import Flow, Work
from fakes.clock import FakeClock

# What a dead worker held is taken over after this long: a lease, or a restart.
SHORTEST_DOWNTIME = timedelta(minutes=1)
LONGEST_DOWNTIME = timedelta(hours=1)
Run = Callable[[Flow, OperationID, int], Awaitable[None]]

_CREATE = """CREATE TABLE simulated_jobs (
    place INTEGER PRIMARY KEY, workflow_id TEXT UNIQUE NOT NULL, operation TEXT NOT NULL, attempt INTEGER NOT NULL,
    priority INTEGER NOT NULL, due_at TEXT NOT NULL)"""
_ADD = sa.text(
    "INSERT INTO simulated_jobs (workflow_id, operation, attempt, priority, due_at)"
    " VALUES (:workflow_id, :operation, :attempt, :priority, :due_at) ON CONFLICT DO NOTHING"
)
_NEWER = "SELECT place, workflow_id, operation, attempt, priority, due_at FROM simulated_jobs WHERE place > ?"


@dataclass(frozen=True, order=True, slots=True)
class _Task:
    """A workflow that is to be run, or to go on. `name` is its operation's certificate."""

    due_at: datetime
    priority: int
    place: int
    workflow_id: str
    operation: OperationID
    attempt: int


class SimulatedEngine:
    """Runs what was enqueued, each at its time, one after the other.

    A job is a row of the caller's own transaction, and is seen only after its commit. A body that is killed runs
    again from its checkpoints after a while, as after a restart.

    run: the workflow's body; set once the workflow is made.
    """

    run: Run

    def __init__(self, database: sa.Engine, *, world: World, name_of: Callable[[str], str]) -> None:
        self._database = database
        self._world = world
        self._clock: FakeClock = world.clock
        self._name_of = name_of
        self._tasks: list[_Task] = []
        self._seen = 0
        self._checkpoints: dict[str, list[tuple[str, str]]] = {}
        with database.begin() as connection:
            connection.exec_driver_sql(_CREATE)

    def enqueue(self, connection: sa.Connection, job: Job) -> None:
        """What `SQLStore.connect_enqueue` takes."""
        due_at = self._clock.now() + timedelta(seconds=job.delay_seconds)
        connection.execute(
            _ADD,
            {
                "workflow_id": job.workflow_id,
                "operation": job.operation,
                "attempt": job.attempt,
                "priority": job.priority,
                "due_at": due_at.isoformat(),
            },
        )

    def next_at(self) -> datetime | None:
        """Return when there is something to run."""
        self._collect()
        return self._tasks[0].due_at if self._tasks else None

    async def run_due(self) -> None:
        """Run everything whose time has come, and what that enqueues for now."""
        while (due := self.next_at()) is not None and due <= self._clock.now():
            await self._run_one(heapq.heappop(self._tasks))

    async def _run_one(self, task: _Task) -> None:
        recorded = self._checkpoints.setdefault(task.workflow_id, [])
        flow = _CheckpointedFlow(recorded, world=self._world, name=self._name_of(task.operation))
        try:
            await self.run(flow, task.operation, task.attempt)
        except Killed:
            downtime = timedelta(
                seconds=self._world.between(SHORTEST_DOWNTIME.total_seconds(), LONGEST_DOWNTIME.total_seconds())
            )
            again = (self._clock.now() + downtime, task.priority, task.place)
            heapq.heappush(self._tasks, _Task(*again, task.workflow_id, task.operation, task.attempt))
            return
        del self._checkpoints[task.workflow_id]

    def _collect(self) -> None:
        with self._database.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            for place, workflow_id, operation, attempt, priority, due_at in raw.execute(_NEWER, (self._seen,)):
                self._seen = place
                task = _Task(datetime.fromisoformat(due_at), priority, place, workflow_id, operation, attempt)
                heapq.heappush(self._tasks, task)


class _CheckpointedFlow:
    """The engine as `Flow` describes it: finished steps are remembered, and only those."""

    def __init__(self, recorded: list[tuple[str, str]], *, world: World, name: str) -> None:
        self._recorded = recorded
        self._world = world
        self._name = name
        self._place = 0

    async def step(self, name: str, work: Work) -> dict[str, object]:
        self._place += 1
        if self._place > len(self._recorded):
            self._world.pass_by(self._name)
            outcome = json.dumps(await work())
            self._world.pass_by(self._name)
            self._recorded.append((name, outcome))
            self._world.pass_by(self._name)
        recorded_name, outcome = self._recorded[self._place - 1]
        assert recorded_name == name, "the same steps in the same order"
        value: dict[str, object] = json.loads(outcome)
        return value

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("issuance doesn't sleep in a workflow")

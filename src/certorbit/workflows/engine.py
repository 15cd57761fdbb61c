"""The workflow engine: DBOS Transact behind our interface (docs/decisions/0001-workflow-engine.md).

Any process may `prepare`, `enqueue` in a transaction of its own and read steps; a worker also registers its
workflows and launches. What runs where, and who takes over from whom, is in worker.py, lease.py and executors.py.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Final, TypeVar

import sqlalchemy as sa
import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Broken, Unreachable
from certorbit.model.backoff import Poll
from certorbit.model.operation import OperationID, Step
from certorbit.ports.store import Job, JobKind
from certorbit.workflows import engine_schema, executors, transact
from certorbit.workflows.engine_schema import RETENTION, leave_alone
from certorbit.workflows.executors import Tables
from certorbit.workflows.flow import BROKEN_KEY, DurableFlow, Flow, StepBroke, Superseded, Work, encode_outcome
from certorbit.workflows.traces import describe
from certorbit.workflows.transact import APPLICATION_VERSION, DEPLOYMENT_QUEUE, ISSUANCE_QUEUE, ISSUE, Call
from certorbit.workflows.worker import Shape, Shift, Worker

__all__ = [
    "APPLICATION_VERSION",
    "DEPLOYMENT_QUEUE",
    "ISSUANCE_QUEUE",
    "ISSUE",
    "RETENTION",
    "Engine",
    "Flow",
    "OnBroken",
    "Run",
    "leave_alone",
]

T = TypeVar("T")
Run = Callable[[Flow, OperationID, int], Awaitable[None]]
OnBroken = Callable[[OperationID, int, str], Awaitable[None]]

HOOK_POLL: Final = Poll(first=1.0, longest=60.0)
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Definition:
    run: Run
    on_broken: OnBroken


class Engine:
    """Durable workflows on our own database.

    max_in_flight: issuances at once in this worker. deployments_in_flight: deployments at once, beside them.
    poll_seconds: how often a worker looks for work.
    heartbeat_seconds, ttl_seconds: PostgreSQL: a worker without a heartbeat for the TTL is dead, and its work goes
    to another.
    on_broken: told of a bug in a workflow (operation, attempt, id of the log event); it records the failed attempt.
        It may be told twice of the same attempt, and is asked again until it succeeds. `register` may name another.
    adopt: told of every pool of connections that the engine opens.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each part
        self,
        *,
        database_url: str,
        clock: Clock,
        chance: Chance,
        max_in_flight: int,
        deployments_in_flight: int = 8,
        on_broken: OnBroken | None = None,
        poll_seconds: float = 0.2,
        heartbeat_seconds: float = 10.0,
        ttl_seconds: float = 45.0,
        adopt: Callable[[sa.Engine], None] = leave_alone,
    ) -> None:
        self._database = engine_schema.parse_database(database_url, adopt=adopt)
        self._tables = Tables(self._database.schema)
        self._clock = clock
        self._chance = chance
        self._on_broken = on_broken
        self._shape = Shape(
            in_flight={JobKind.ISSUE: max_in_flight, JobKind.DEPLOY: deployments_in_flight},
            poll_seconds=poll_seconds,
            heartbeat_seconds=heartbeat_seconds,
            ttl_seconds=ttl_seconds,
        )
        if heartbeat_seconds * 3 > ttl_seconds:
            raise Broken("One late heartbeat must not kill a worker: give a TTL of three heartbeats or more.")
        self._definitions: dict[JobKind, _Definition] = {}
        self._pool = self._database.connect(pool_size=4, statement_seconds=30.0)
        self._client = transact.make_client(self._pool)
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="certorbit-steps")
        self._worker: Worker | None = None

    def prepare(self) -> None:
        """Create or migrate the engine's tables. Blocks; safe when several processes do it at once, and again.

        Raises:
            Unreachable: the database did not answer.
        """
        engine_schema.prepare(self._database, chance=self._chance)

    def release_all(self) -> int:
        """Return to their queues all workflows that workers hold; say how many. Blocks.

        For a database that was just restored: whoever held them there does not live here, and need not be waited for.
        """
        with self._pool.begin() as connection:
            return executors.release_all_but(connection, self._tables, alive=(), now=self._clock.now())

    def register(self, name: str, run: Run, *, on_broken: OnBroken | None = None) -> None:
        """Define a workflow; before `launch`.

        name: a `JobKind`'s value: it is stored with every workflow and never renamed while rows of it may live.
        """
        hook = on_broken or self._on_broken
        if hook is None:
            raise Broken(f"The workflow {name!r} has no on_broken: its bugs would be lost.", subject=name)
        self._definitions[JobKind(name)] = _Definition(run, hook)

    def enqueue(self, connection: sa.Connection, job: Job) -> None:
        """Enqueue the job in the connection's transaction: it exists if and only if that is committed.

        Enqueuing the same `workflow_id` again is harmless. Works in processes that never launch.

        Raises:
            Broken: the id belongs to another kind of workflow, or the priority is out of range.
        """
        # On PostgreSQL a failed statement would otherwise spoil the caller's transaction.
        with nullcontext() if self._database.is_sqlite else connection.begin_nested():
            transact.enqueue(self._client, connection, job)

    async def launch(self) -> None:
        """Become a worker, in this event loop. `prepare` came before.

        Raises:
            Refused: another worker runs on this SQLite database.
            Unreachable: the database did not answer.
        """
        if self._worker is not None:
            raise Broken("This engine was launched already.")
        worker = Worker(
            database=self._database,
            client=self._client,
            bodies={kind: partial(self._run, definition) for kind, definition in self._definitions.items()},
            shape=self._shape,
            clock=self._clock,
            chance=self._chance,
        )
        self._worker = worker
        try:
            await worker.start()
        except BaseException:
            self._worker = None
            raise

    async def stop(self, *, drain_seconds: float) -> None:
        """Stop working: let workflows end for so long, then interrupt them; they go on at the next start.

        Harmless when it isn't launched. Reading and enqueuing still work afterwards; so does launching again.
        """
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(drain_seconds=drain_seconds)

    async def list_steps(self, operation: OperationID, *, attempts: int) -> Sequence[Step]:
        """Return the finished steps of attempts 1 to `attempts`, in order (`ports.engine.StepReader`)."""
        return await self._transact(
            lambda connection: executors.list_steps(connection, self._tables, operation, attempts=attempts)
        )

    async def clean_up(self, older_than: timedelta = RETENTION) -> int:
        """Delete workflows that ended longer ago, with their steps; return how many. Their ids are never reused."""
        before = self._clock.now() - older_than
        total = 0
        while True:
            deleted = await self._transact(lambda c: executors.delete_finished(c, self._tables, before=before))
            total += deleted
            if deleted < executors.DELETE_AT_ONCE:
                return total

    def close(self) -> None:
        """Release connections; the engine is not used afterwards."""
        self._threads.shutdown(wait=False)
        self._client.destroy()
        self._pool.dispose()

    async def _run(self, definition: _Definition, shift: Shift, call: Call) -> None:
        operation = OperationID(call.operation)
        if shift.is_closing:
            raise asyncio.CancelledError("the worker stops")
        try:
            flow = DurableFlow(
                call,
                await shift.checkpoints.load(call.workflow),
                enter=shift.enter,
                perform=partial(self._perform, shift, call),
                save=shift.checkpoints.save,
                clock=self._clock,
            )
            await definition.run(flow, operation, call.attempt)
        except Superseded:
            log.warning("workflow.superseded", workflow=call.workflow)
            raise
        except StepBroke as broken:
            await self._hand_over(definition, shift, call, broken.error_id)
        except Exception as error:  # noqa: BLE001 - a bug must end as a recorded failure (style guide, 5.5)
            await self._hand_over(definition, shift, call, self._report(shift, call, error, step=""))

    async def _perform(self, shift: Shift, call: Call, name: str, work: Work) -> str:
        """Do a step's work; a bug becomes an outcome, so that a repeat of the workflow meets the same one."""
        try:
            return encode_outcome(await work())
        except Exception as error:  # noqa: BLE001 - as above
            return json.dumps({BROKEN_KEY: self._report(shift, call, error, step=name)})

    def _report(self, shift: Shift, call: Call, error: Exception, *, step: str) -> str:
        """Log the bug and return the id of its log event. While stopping nothing is judged: it runs again anyway."""
        if shift.is_closed:
            raise asyncio.CancelledError("the worker stops") from error
        error_id = secrets.token_hex(6)
        log.error("workflow.broken", error_id=error_id, workflow=call.workflow, step=step, **describe(error))
        return error_id

    async def _hand_over(self, definition: _Definition, shift: Shift, call: Call, error_id: str) -> None:
        """Tell the hook until it has written the failure down; nothing is given up silently."""
        for turn in count():
            await shift.enter()
            try:
                await self._check_owner(call)
                await definition.on_broken(OperationID(call.operation), call.attempt, error_id)
            except Exception as error:  # noqa: BLE001 - as above
                fields = describe(error)
                log.error("workflow.hook_failed", error_id=error_id, workflow=call.workflow, **fields)  # noqa: TRY400 - the text may hold a key
                await self._clock.sleep(HOOK_POLL.pause(turn, uniform=self._chance.between))
            else:
                return

    async def _check_owner(self, call: Call) -> None:
        """End an execution that was taken over: it must not end the attempt of the one that took over."""
        owner = await self._transact(lambda c: executors.find_owner(c, self._tables, call.workflow))
        if owner != call.owner:
            raise Superseded(call.workflow)

    async def _transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Run a short transaction in a thread.

        Raises:
            Unreachable: the database did not answer.
        """

        def run() -> T:
            with self._pool.begin() as connection:
                return work(connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except sa.exc.SQLAlchemyError as error:
            raise Unreachable(
                f"The workflow tables can't be read ({type(error).__name__}).",
                subject=self._database.url.host or self._database.path,
                phase="database",
            ) from error

"""One worker: from taking the right to work to giving it back. `engine.py` owns it; nothing else uses it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Final, TypeVar
from uuid import uuid4

import sqlalchemy as sa
import structlog
from dbos import DBOSClient

from certorbit.clock import Chance, Clock
from certorbit.errors import CertorbitError, Unreachable
from certorbit.model.backoff import Poll
from certorbit.ports.store import JobKind
from certorbit.workflows import executors, transact
from certorbit.workflows.checkpoints import Checkpoints
from certorbit.workflows.engine_schema import Database
from certorbit.workflows.executors import Tables, WorkerLock
from certorbit.workflows.lease import FileLease, HeartbeatLease, Lease
from certorbit.workflows.transact import Call, Transact

T = TypeVar("T")

SQLITE_POOL: Final = 4  # one writes at a time anyway; more would only poll for SQLite's lock
POSTGRES_POOL: Final = 10  # DBOS's own threads take up to five
DBOS_THREADS: Final = 8
CANCEL_SECONDS: Final = 5.0  # for cancelled steps to let go of what they hold
WRITE_SECONDS: Final = 10.0  # for the last checkpoints
HEARTBEAT_JITTER: Final = 0.2
RESTART_POLL: Final = Poll(first=1.0, longest=30.0)
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a worker works. Seconds throughout; ttl: after so long without a heartbeat a worker is dead.

    in_flight: workflows at once, by kind.
    """

    in_flight: Mapping[JobKind, int]
    poll_seconds: float
    heartbeat_seconds: float
    ttl_seconds: float


class Shift:
    """What one executor id works with: DBOS, the checkpoints, the lease. A worker declared dead begins another."""

    def __init__(self, executor: str, *, dbos: Transact, checkpoints: Checkpoints, lease: Lease) -> None:
        self.executor = executor
        self.dbos = dbos
        self.checkpoints = checkpoints
        self.lease = lease
        self.is_closing = False  # no workflow begins
        self.is_closed = False  # no step begins

    async def enter(self) -> None:
        """Return when a step may begin; end the workflow, to be run again, when this worker stops."""
        if not self.is_closed:
            await self.lease.hold()
        if self.is_closed:
            raise asyncio.CancelledError("the worker stops")


Body = Callable[[Shift, Call], Awaitable[None]]


class Worker:
    """Runs workflows in this process until it is stopped."""

    def __init__(
        self,
        *,
        database: Database,
        client: DBOSClient,
        bodies: Mapping[JobKind, Body],
        shape: Shape,
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._database = database
        self._client = client
        self._bodies = bodies
        self._queues = {kind: transact.QUEUES[kind] for kind in bodies}
        self._shape = shape
        self._clock = clock
        self._chance = chance
        self._tables = Tables(database.schema)
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="certorbit-engine")
        self._pool = database.connect(pool_size=SQLITE_POOL if database.is_sqlite else POSTGRES_POOL)
        self._own_pool = database.connect(pool_size=3, statement_seconds=max(1.0, shape.heartbeat_seconds))
        self._lock: WorkerLock | None = None
        self._shift: Shift | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._turnover = asyncio.Lock()  # held while a shift begins or ends

    async def start(self) -> None:
        """Take the right to work, take over what the dead left, begin.

        Raises:
            Refused: another worker runs on this SQLite database.
            Unreachable: the database did not answer.
        """
        try:
            if self._database.is_sqlite:
                self._lock = await self._in_thread(partial(executors.take_worker_lock, self._database.path))
            self._shift = await self._begin()
        except BaseException as error:
            self._leave()
            if isinstance(error, sa.exc.SQLAlchemyError):
                raise Unreachable(
                    f"The worker can't start: the database is away, or is not prepared ({type(error).__name__}).",
                    subject=self._database.url.host or self._database.path,
                    phase="database",
                ) from error
            raise
        if not self._database.is_sqlite:
            self._keeper = asyncio.create_task(self._keep_alive())

    async def stop(self, *, drain_seconds: float) -> None:
        """Take no more work, let what runs go on for so long, then interrupt it; it goes on at the next start."""
        self._is_stopping = True
        async with self._turnover:
            if self._shift is not None:
                await self._end(self._shift, drain_seconds=drain_seconds)
                self._shift = None
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        self._leave()

    async def _begin(self) -> Shift:
        # New at every start: DBOS's default, "local", would let two processes repeat each other's steps.
        host = socket.gethostname()
        executor = f"{host}-{uuid4().hex}"
        lease = await self._take_lease(executor, host=host)
        dbos: Transact | None = None
        try:
            await self._in_thread(self._declare_queues)
            dbos = Transact(engine=self._pool, executor=executor, threads=DBOS_THREADS)
            checkpoints = Checkpoints(
                self._pool, self._tables, threads=self._threads, clock=self._clock, chance=self._chance
            )
            shift = Shift(executor, dbos=dbos, checkpoints=checkpoints, lease=lease)
            for kind, body in self._bodies.items():
                dbos.define(kind.value, partial(body, shift))
            dbos.listen(self._queues.values())
            dbos.launch()
        except BaseException:
            if dbos is not None:
                await self._in_thread(dbos.destroy)
            await self._give_back(executor, lease)
            raise
        log.info(
            "worker.started",
            executor=executor,
            in_flight={self._queues[kind]: self._shape.in_flight[kind] for kind in self._queues},
        )
        return shift

    def _declare_queues(self) -> None:
        for kind, queue in self._queues.items():
            transact.declare_queue(
                self._client,
                queue,
                max_in_flight=self._shape.in_flight[kind],
                poll_seconds=self._shape.poll_seconds,
            )

    async def _take_lease(self, executor: str, *, host: str) -> Lease:
        if self._database.is_sqlite:
            released = await self._in_transaction(
                lambda c: executors.release_all_but(c, self._tables, alive={executor}, now=self._clock.now())
            )
            log.info("worker.took_over", executor=executor, workflows=released)
            return FileLease()
        ttl = timedelta(seconds=self._shape.ttl_seconds)
        lease = HeartbeatLease(self._own_pool, self._tables, executor=executor, ttl=ttl, clock=self._clock)
        await lease.start(host=host)
        return lease

    async def _end(self, shift: Shift, *, drain_seconds: float) -> None:
        shift.is_closing = True
        shift.dbos.refuse_work()
        tasks = shift.dbos.tasks
        if tasks and drain_seconds > 0:
            await asyncio.wait(tasks, timeout=drain_seconds)
        shift.is_closed = True
        await _cancel(shift.dbos.tasks)
        await shift.checkpoints.close(seconds=WRITE_SECONDS)
        # DBOS's queue thread may be handing over one more workflow; that needs this loop, so it isn't blocked here.
        await self._in_thread(shift.dbos.destroy)
        await _cancel(shift.dbos.tasks)
        await self._give_back(shift.executor, shift.lease)
        log.info("worker.stopped", executor=shift.executor)

    async def _give_back(self, executor: str, lease: Lease) -> None:
        if isinstance(lease, HeartbeatLease):
            await lease.end()
            return
        try:
            await self._in_transaction(
                lambda c: executors.release(c, self._tables, dead=[executor], now=self._clock.now())
            )
        except sa.exc.SQLAlchemyError as error:
            # Nothing is lost: the next worker takes over what this one held.
            log.warning("worker.leave_failed", executor=executor, error=type(error).__name__)

    def _leave(self) -> None:
        self._threads.shutdown(wait=False)
        self._pool.dispose()
        self._own_pool.dispose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def _keep_alive(self) -> None:
        """Write heartbeats, take over what dead workers held, begin anew when this one was declared dead."""
        while True:
            await self._clock.sleep(self._shape.heartbeat_seconds * self._chance.between(1 - HEARTBEAT_JITTER, 1.0))
            shift = self._shift
            if shift is None or not isinstance(shift.lease, HeartbeatLease):
                return
            if await shift.lease.beat():
                if released := await shift.lease.reap():
                    log.warning("worker.took_over", executor=shift.executor, workflows=released)
            elif not self._is_stopping:
                log.error("worker.declared_dead", executor=shift.executor)
                await self._begin_anew()

    async def _begin_anew(self) -> None:
        async with self._turnover:
            if self._shift is not None and not self._is_stopping:
                await self._end(self._shift, drain_seconds=0.0)
                self._shift = None
            for turn in count():
                if self._is_stopping:
                    return
                try:
                    self._shift = await self._begin()
                except (sa.exc.SQLAlchemyError, CertorbitError) as error:
                    log.warning("worker.restart_failed", error=type(error).__name__, turn=turn)
                    await self._clock.sleep(RESTART_POLL.pause(turn, uniform=self._chance.between))
                else:
                    return

    async def _in_transaction(self, work: Callable[[sa.Connection], T]) -> T:
        def run() -> T:
            with self._own_pool.begin() as connection:
                return work(connection)

        return await self._in_thread(run)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def _cancel(tasks: set["asyncio.Task[object]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)

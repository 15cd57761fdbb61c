"""A worker's right to work: heartbeats on PostgreSQL, by the database's clock.

A worker that can't write heartbeats (suspended, cut off) begins no step; one that was declared dead finds its row
gone, drops what it ran and starts anew under another name. Between the two, DBOS's ownership token keeps it from
recording anything. On SQLite the file lock is the right, and it can't be lost.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

import sqlalchemy as sa
import structlog

from certorbit.clock import Clock
from certorbit.workflows import executors
from certorbit.workflows.executors import Tables

T = TypeVar("T")
FRESH_SHARE: Final = 2 / 3  # of the TTL: after that no step begins, so that one has a third of it to end in time
log = structlog.get_logger(__name__)


class Lease(Protocol):
    async def hold(self) -> None:
        """Return when this worker may begin a step."""
        ...


class FileLease:
    """SQLite: the worker's file lock is held until the process ends."""

    async def hold(self) -> None:
        return


class HeartbeatLease:
    """PostgreSQL: a row per worker."""

    def __init__(self, engine: sa.Engine, tables: Tables, *, executor: str, ttl: timedelta, clock: Clock) -> None:
        self._engine = engine
        self._tables = tables
        self._executor = executor
        self._ttl = ttl
        self._clock = clock
        # A thread of its own, so that nothing that is slow can make a healthy worker look dead.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="certorbit-heartbeat")
        self._seen_at: datetime | None = None
        self._judges_from: datetime | None = None  # None: heartbeats are not regular
        self._confirmed = asyncio.Condition()
        self._local_mark = (0.0, 0.0)

    async def start(self, *, host: str) -> None:
        """Write the first heartbeat."""
        mark = self._mark()
        seen_at = await self._transact(lambda c: executors.register_worker(c, executor=self._executor, host=host))
        await self._confirm(seen_at, mark, steady=False)

    async def beat(self) -> bool:
        """Write a heartbeat; return False if this worker was declared dead. A database that is away is no answer."""
        mark = self._mark()
        try:
            seen_at = await self._transact(lambda c: executors.beat(c, executor=self._executor))
        except sa.exc.SQLAlchemyError as error:
            self._judges_from = None
            log.warning("worker.heartbeat_failed", executor=self._executor, error=type(error).__name__)
            return True
        if seen_at is None:
            return False
        steady = self._seen_at is not None and seen_at - self._seen_at < self._ttl / 2
        await self._confirm(seen_at, mark, steady=steady)
        return True

    async def reap(self) -> int:
        """Release what dead workers hold, unless it is too early to judge; say how many workflows.

        After an outage all workers look dead at first, so it waits until its own heartbeats have been regular for
        one TTL: until then those who live have written theirs.
        """
        if self._seen_at is None or self._judges_from is None or self._seen_at < self._judges_from:
            return 0
        now = self._clock.now()
        try:
            return await self._transact(lambda c: executors.reap(c, self._tables, ttl=self._ttl, now=now))
        except sa.exc.SQLAlchemyError as error:
            log.warning("worker.reaper_failed", executor=self._executor, error=type(error).__name__)
            return 0

    async def hold(self) -> None:
        if self._is_fresh():
            return
        log.warning("worker.heartbeat_stale", executor=self._executor)
        async with self._confirmed:
            await self._confirmed.wait_for(self._is_fresh)

    async def end(self) -> None:
        """Give back what this worker still holds, and leave."""
        now = self._clock.now()

        def leave(connection: sa.Connection) -> int:
            held = executors.release(connection, self._tables, dead=[self._executor], now=now)
            executors.unregister_worker(connection, executor=self._executor)
            return held

        try:
            await self._transact(leave)
        except sa.exc.SQLAlchemyError as error:
            log.warning("worker.leave_failed", executor=self._executor, error=type(error).__name__)
        self._thread.shutdown(wait=False)

    async def _confirm(self, seen_at: datetime, mark: tuple[float, float], *, steady: bool) -> None:
        if not steady or self._judges_from is None:
            self._judges_from = seen_at + self._ttl
        self._seen_at = seen_at
        self._local_mark = mark
        async with self._confirmed:
            self._confirmed.notify_all()

    def _mark(self) -> tuple[float, float]:
        """Return the time by two clocks: one stands still while the machine sleeps, the other may be set back."""
        return asyncio.get_running_loop().time(), self._clock.now().timestamp()

    def _is_fresh(self) -> bool:
        age = max(now - then for now, then in zip(self._mark(), self._local_mark, strict=True))
        return age < self._ttl.total_seconds() * FRESH_SHARE

    async def _transact(self, work: Callable[[sa.Connection], T]) -> T:
        def run() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

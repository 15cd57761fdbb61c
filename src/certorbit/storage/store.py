"""The store: runs transactions, repeats what lost a race, says when the database can't be used.

Synchronous underneath (decisions/0006). On SQLite a read runs where it is awaited: readers of a WAL database never
wait, and handing a query to a thread costs more than the query. Everything else runs in threads of the store's own.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Broken, CertorbitError, LostRace, Unreachable
from certorbit.model.audit import Actor
from certorbit.ports.audit import current_actor
from certorbit.ports.store import UnitOfWork
from certorbit.storage.engine import READS_ONLY, name_for_people
from certorbit.storage.failures import translate
from certorbit.storage.group_commit import GroupCommit
from certorbit.storage.transaction import Transaction
from certorbit.storage.unit_of_work import Enqueue, SQLUnitOfWork

log = structlog.get_logger(__name__)
T = TypeVar("T")

MOST_TRIES = 8  # of a transaction that lost races
MOST_TRIES_UNREACHABLE = 3  # of one whose connection broke before the commit: a restart's stale connections
PATIENCE = timedelta(seconds=30)  # no new try after this long: the client has given up (contract.md)
# Doubled with every try up to the longest; the wait is a random part of it. Whoever won has committed already.
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.25
THREADS = 8


class _CommitFailed(Exception):
    """The commit's outcome is unknown, so the transaction is not run again. Never leaves this module."""

    def __init__(self, error: CertorbitError) -> None:
        super().__init__(error.message)
        self.error = error


class SQLStore:
    """Implements `ports.store.Store`. Works from several event loops and threads at once.

    Args:
        engine: from `make_engine`; the store owns it and closes it.
        enqueue: see `connect_enqueue`.
    """

    def __init__(self, engine: sa.Engine, *, clock: Clock, chance: Chance, enqueue: Enqueue | None = None) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._database = name_for_people(engine)
        self._clock = clock
        self._chance = chance
        self._enqueue = enqueue
        if self._is_sqlite:
            self._reader = engine.execution_options(**{READS_ONLY: True})
        else:
            # One snapshot for the whole read; PostgreSQL itself refuses a write in it.
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        # SQLite has one writer at a time: a single thread makes ours queue here, without polling for the lock.
        self._group = GroupCommit(self._write_all) if self._is_sqlite else None
        self._write_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store-write")
        self._read_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store-read")

    @property
    def engine(self) -> sa.Engine:
        return self._engine

    def connect_enqueue(self, enqueue: Enqueue) -> None:
        """Join the store with the workflow engine: `UnitOfWork.enqueue` calls this with its own connection."""
        self._enqueue = enqueue

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        if self._is_sqlite:
            return await self._repeat(partial(_run_here, partial(self._read_once, work)))
        return await self._repeat(partial(_run_in, self._read_threads, partial(self._read_once, work)))

    async def write(self, work: Callable[[UnitOfWork], T]) -> T:
        # Taken here: the function runs in a thread that serves others as well.
        acting = partial(_act, work, current_actor())
        if self._group is not None:
            return await self._repeat(partial(self._group.run, acting))
        return await self._repeat(partial(_run_in, self._write_threads, partial(self._write_once, acting)))

    async def close(self) -> None:
        """Let running transactions end and release all connections; the store is not used afterwards."""
        await asyncio.to_thread(self._close)

    async def _repeat(self, run: Callable[[], Awaitable[T]]) -> T:
        """Run a transaction until it is through, within the bounds at the top of this module."""
        deadline = self._clock.now() + PATIENCE
        for number in range(1, MOST_TRIES + 1):
            try:
                return await run()
            except _CommitFailed as failure:
                raise failure.error from failure.__cause__
            except (LostRace, Unreachable) as error:
                tries = MOST_TRIES if isinstance(error, LostRace) else MOST_TRIES_UNREACHABLE
                if number >= tries or self._clock.now() >= deadline:
                    raise
                log.info("store.repeat", number=number, reason=error.message)
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (number - 1))
            await self._clock.sleep(self._chance.between(0.0, pause))
        raise Broken("The last try neither returned nor raised.")  # not reached: the last one raises

    def _read_once(self, work: Callable[[UnitOfWork], T]) -> T:
        with self._translated(is_writing=False), self._reader.connect() as connection:
            raw = connection.connection.driver_connection
            before = raw.total_changes if isinstance(raw, sqlite3.Connection) else 0
            result = work(self._unit_of_work(connection, is_writing=False))
            if isinstance(raw, sqlite3.Connection) and raw.total_changes != before:
                raise Broken("A function that was to read only has written.", subject=self._database)
            return result  # leaving the block rolls back

    def _write_once(self, work: Callable[[UnitOfWork], T]) -> T:
        results: list[T] = self._write_all([work])
        return results[0]

    def _write_all(self, works: Sequence[Callable[[UnitOfWork], Any]]) -> list[Any]:
        """Run the functions in one transaction and return their results; all or nothing."""
        with self._translated(is_writing=True), self._engine.connect() as connection:
            transaction = connection.begin()
            # An exception of a function leaves the block, which rolls back.
            results = [work(self._unit_of_work(connection, is_writing=True)) for work in works]
            try:
                transaction.commit()
            except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
                failure = translate(error, database=self._database, is_writing=True)
                if isinstance(failure, LostRace):  # said by the database itself: it has rolled back
                    raise failure from error
                raise _CommitFailed(failure) from error
            return results

    def _unit_of_work(self, connection: sa.Connection, *, is_writing: bool) -> SQLUnitOfWork:
        transaction = Transaction(connection, database=self._database, is_writing=is_writing)
        return SQLUnitOfWork(transaction, enqueue=self._enqueue)

    @contextmanager
    def _translated(self, *, is_writing: bool) -> Iterator[None]:
        """Translate what connecting, beginning and fetching raise; repositories translate the rest."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            raise translate(error, database=self._database, is_writing=is_writing) from error

    def _close(self) -> None:
        if self._group is not None:
            self._group.close()
        self._write_threads.shutdown(wait=True)
        self._read_threads.shutdown(wait=True)
        self._engine.dispose()


def _act(work: Callable[[UnitOfWork], T], actor: Actor, tx: UnitOfWork) -> T:
    return work(tx.acting(actor))


async def _run_here(once: Callable[[], T]) -> T:
    return once()


async def _run_in(threads: ThreadPoolExecutor, once: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, once)

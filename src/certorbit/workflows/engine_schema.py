"""Where the engine keeps its tables: DBOS's own schema and our table of workers, on SQLite and on PostgreSQL.

On SQLite they live in our database file, on PostgreSQL in the schema `dbos` of our database. Constants that rows of
running workflows depend on are here too; they never change while such rows may live (docs/decisions/0001).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from certorbit.clock import Chance
from certorbit.errors import BadInput, Unreachable
from certorbit.workflows import executors, transact

SCHEMA: Final = transact.SCHEMA
RETENTION: Final = timedelta(days=30)  # longer than the longest rate window of a CA (7 days, facts.md)
PREPARE_TRIES: Final = 6
PREPARE_LOCK: Final = 0x63657274_6F726231  # pg advisory lock: "certorb1"
SQLITE_BUSY_MS: Final = 30_000  # as DBOS's own connections
POSTGRES_IDLE_MS: Final = 60_000  # a frozen client must not hold locks for longer


def leave_alone(_engine: sa.Engine) -> None:
    """Adopt a pool without doing anything to it."""


@dataclass(frozen=True, slots=True)
class Database:
    """Our database as the engine uses it.

    url: `sqlite:////absolute/path`, `postgresql://…` or `postgresql+psycopg://…`.
    adopt: told of every pool that is opened; the owner of the process makes its writers take turns by it.
    """

    url: sa.URL
    adopt: Callable[[sa.Engine], None] = leave_alone

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def schema(self) -> str | None:
        return None if self.is_sqlite else SCHEMA

    @property
    def path(self) -> str:
        """The SQLite file."""
        return self.url.database or ""

    def connect(self, *, pool_size: int, statement_seconds: float | None = None) -> sa.Engine:
        """Return an engine with a pool of its own; it connects when first used.

        statement_seconds: PostgreSQL's limit for one statement; None for none.
        """
        if self.is_sqlite:
            engine = _connect_sqlite(self.url, pool_size=pool_size)
        else:
            engine = _connect_postgres(self.url, pool_size=pool_size, statement_seconds=statement_seconds)
        self.adopt(engine)
        return engine


def parse_database(url: str, *, adopt: Callable[[sa.Engine], None] = leave_alone) -> Database:
    """Return the database that a URL of ours means. adopt: see `Database`.

    Raises:
        BadInput: it is neither an absolute SQLite file nor PostgreSQL.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise BadInput(
            "database_url is not a URL; give sqlite:////path or postgresql://…", subject="database_url"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return Database(parsed.set(drivername="postgresql+psycopg"), adopt)
    if backend != "sqlite":
        raise BadInput(f"database_url: {backend} is not supported; use SQLite or PostgreSQL.", subject="database_url")
    if not (parsed.database or "").startswith("/"):
        raise BadInput("database_url: give the SQLite file's absolute path (sqlite:////path).", subject="database_url")
    return Database(parsed.set(drivername="sqlite+pysqlite"), adopt)


def prepare(database: Database, *, chance: Chance) -> None:
    """Create or migrate the engine's tables. Blocks; safe when several processes do it at once, and again.

    Raises:
        Unreachable: the database did not answer after a few tries.
    """
    engine = database.connect(pool_size=2)
    try:
        for turn in range(PREPARE_TRIES):
            try:
                _migrate(database, engine)
            except sa.exc.DBAPIError as error:
                # SQLite refuses to switch to WAL while another process is just doing so, whatever the busy time-out.
                if turn == PREPARE_TRIES - 1:
                    raise Unreachable(
                        f"The database refused to create the workflow tables ({type(error.orig).__name__}).",
                        subject=database.url.host or database.path,
                        phase="database",
                    ) from error
                threading.Event().wait(chance.between(0.05, 0.2) * 2**turn)
            else:
                return
    finally:
        engine.dispose()


def _migrate(database: Database, engine: sa.Engine) -> None:
    transact.migrate(engine)
    if database.is_sqlite:
        return  # one worker, guarded by a file lock: no heartbeats
    with engine.begin() as connection:
        # CREATE TABLE IF NOT EXISTS alone fails when two processes meet in it.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(PREPARE_LOCK)))
        connection.execute(sa.schema.CreateTable(executors.WORKERS, if_not_exists=True))


def _connect_sqlite(url: sa.URL, *, pool_size: int) -> sa.Engine:
    engine = sa.create_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=30, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # BEGIN IMMEDIATE, as DBOS's own hook has it: a plain BEGIN that becomes a writer late fails with
        # "database is locked" at once (engine.md: 9,633 times).
        connection.isolation_level = "IMMEDIATE"
        connection.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=WAL")
        # FULL: a checkpoint that was confirmed survives a power cut; NORMAL in WAL mode may lose the last ones.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _connect_postgres(url: sa.URL, *, pool_size: int, statement_seconds: float | None) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=True,
        hide_parameters=True,  # an error's text must not carry a step's outcome into a log
        connect_args={
            "application_name": "certorbit-engine",
            "connect_timeout": 10,
            # A database host that vanished is noticed in about 15 seconds, not in two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )
    statement_ms = int((statement_seconds or 0) * 1000)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # SET instead of start-up options: connection poolers refuse those. Committed, for the pool rolls back.
        connection.execute(f"SET idle_in_transaction_session_timeout = {POSTGRES_IDLE_MS}")
        connection.execute(f"SET statement_timeout = {statement_ms}")
        connection.commit()

    return engine

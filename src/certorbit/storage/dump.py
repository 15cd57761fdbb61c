"""All rows of a database as they were at one instant, ours and the workflow engine's, in an order that can be loaded.

Tables are taken as the database has them, so a dump is of its own schema, whatever `tables.py` says later.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from alembic.migration import MigrationContext

from certorbit.errors import Broken
from certorbit.storage.engine import READS_ONLY, name_for_people
from certorbit.storage.failures import translate
from certorbit.storage.row_text import encode_row

# Who is alive, and what the migrations themselves keep: another database has its own.
LEFT_OUT: Final = frozenset({"alembic_version", "dbos_migrations", "certorbit_executors", "worker_heartbeats"})
_AT_ONCE: Final = 500  # rows


@dataclass(frozen=True, slots=True)
class TableRows:
    """rows: each one as a JSON array; to be read once, before the next table's."""

    name: str
    columns: Sequence[str]
    rows: Iterator[str]


class Snapshot:
    """kind: `sqlite` or `postgresql`. revision: of our schema. counts: rows by table, for those that have any."""

    def __init__(self, connection: sa.Connection, tables: Sequence[sa.Table], *, revision: str) -> None:
        self._connection = connection
        self.kind = connection.dialect.name
        self.revision = revision
        counted = [(table, int(connection.execute(_count(table)).scalar_one())) for table in tables]
        self._tables = [table for table, count in counted if count]
        self.counts: Mapping[str, int] = {table.name: count for table, count in counted if count}

    def tables(self) -> Iterator[TableRows]:
        """Yield the tables, each after those that its foreign keys point to."""
        for table in self._tables:
            yield TableRows(table.name, [column.name for column in table.columns], self._rows(table))

    def _rows(self, table: sa.Table) -> Iterator[str]:
        streaming = self._connection.execution_options(stream_results=True, yield_per=_AT_ONCE)
        for row in streaming.execute(sa.select(table)):
            yield encode_row(tuple(row))


@contextmanager
def open_snapshot(engine: sa.Engine, *, schemas: Sequence[str | None]) -> Iterator[Snapshot]:
    """Give the database as it is at this instant; others go on writing meanwhile.

    schemas: whose tables; None: the connection's own.

    Raises:
        Broken: there is nothing of ours in it.
        Unreachable: it can't be used.
    """
    try:
        with _reader(engine).connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            revision = MigrationContext.configure(connection).get_current_revision()
            if revision is None:
                raise Broken(f"The database {name_for_people(engine)} is empty: there is nothing to back up.")
            yield Snapshot(connection, list_tables(connection, schemas=schemas), revision=revision)
    except sa.exc.SQLAlchemyError as error:
        raise translate(error, database=name_for_people(engine), is_writing=False) from error


def list_tables(connection: sa.Connection, *, schemas: Sequence[str | None]) -> Sequence[sa.Table]:
    """Return the tables whose rows belong into a backup, each after those that it points to."""
    found = sa.MetaData()
    for schema in schemas:
        found.reflect(connection, schema=schema, resolve_fks=False)
    return [table for table in found.sorted_tables if table.name not in LEFT_OUT]


def _reader(engine: sa.Engine) -> sa.Engine:
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{READS_ONLY: True})
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _count(table: sa.Table) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(table)

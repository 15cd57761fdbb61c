"""Loads the rows of a dump into a database that was never in use, all in one transaction."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa
from alembic.migration import MigrationContext

from certorbit.errors import Broken, Refused
from certorbit.storage.dump import list_tables
from certorbit.storage.engine import name_for_people
from certorbit.storage.failures import translate
from certorbit.storage.row_text import decode_row

_AT_ONCE: Final = 500  # rows
# A database that was in use has rows here: the first start writes them.
_SIGNS_OF_USE: Final = ("keyring_checks", "configurations", "entries", "api_keys")
# (table, columns, rows as JSON arrays)
Content = Iterable[tuple[str, Sequence[str], Iterator[str]]]


def check_unused(engine: sa.Engine, *, revision: str, schemas: Sequence[str | None]) -> None:
    """Return if a dump of this schema may be loaded here.

    Raises:
        Refused: there is something in the database. Unreachable: it can't be used.
    """
    database = name_for_people(engine)
    try:
        with engine.connect() as connection:
            inspector = sa.inspect(connection)
            names = {name for schema in schemas for name in inspector.get_table_names(schema=schema)}
            found = MigrationContext.configure(connection).get_current_revision()
            is_used = bool(names) and (found != revision or _has_rows(connection, names))
    except sa.exc.SQLAlchemyError as error:
        raise translate(error, database=database, is_writing=False) from error
    if is_used:
        raise Refused(
            f"The database {database} is not empty; a backup is restored into a new one only. Name another one in"
            " CERTORBIT_DATABASE_URL or CERTORBIT_DATA_DIR.",
            subject=database,
        )


def load(engine: sa.Engine, content: Content, *, schemas: Sequence[str | None]) -> None:
    """Insert all rows, or none.

    Raises:
        Broken: the schema lacks a table or column; what `content` raises.
        Unreachable: the database can't be used.
    """
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            tables = {table.name: table for table in list_tables(connection, schemas=schemas)}
            for name, columns, rows in content:
                _load_table(connection, tables, name=name, columns=columns, rows=rows)
            if engine.dialect.name == "postgresql":
                _move_sequences(connection, tables.values())
    except sa.exc.SQLAlchemyError as error:
        raise translate(error, database=name_for_people(engine), is_writing=True) from error


def _has_rows(connection: sa.Connection, names: set[str]) -> bool:
    signs = [sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1) for name in _SIGNS_OF_USE if name in names]
    return any(connection.execute(sign).first() is not None for sign in signs)


def _load_table(
    connection: sa.Connection,
    tables: Mapping[str, sa.Table],
    *,
    name: str,
    columns: Sequence[str],
    rows: Iterator[str],
) -> None:
    table = tables.get(name)
    if table is None or (missing := set(columns) - set(table.c.keys())):
        what = f"table {name}" if table is None else f"column {name}.{min(missing)}"
        raise Broken(f"This version has no {what}: a newer Certorbit made the backup. Restore it with that version.")
    # What a migration itself has put there is in the dump, too.
    if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
        connection.execute(sa.delete(table))
    targets: list[sa.Column[Any]] = [table.c[column] for column in columns]
    insert = sa.insert(table)
    while batch := [decode_row(json.loads(line), targets) for line in islice(rows, _AT_ONCE)]:
        connection.execute(insert, batch)


def _move_sequences(connection: sa.Connection, tables: Iterable[sa.Table]) -> None:
    """Let numbers that PostgreSQL counts itself go on behind the highest that is there."""
    quote = connection.dialect.identifier_preparer
    for table in tables:
        for column in table.primary_key.columns:
            if not isinstance(column.type, sa.Integer):
                continue
            named = sa.func.pg_get_serial_sequence(quote.format_table(table), column.name)
            sequence = connection.execute(sa.select(named)).scalar()
            highest = connection.execute(sa.select(sa.func.max(column))).scalar()
            if sequence is not None and highest is not None:
                connection.execute(sa.select(sa.func.setval(sequence, highest)))

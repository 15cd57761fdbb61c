"""Upserts: INSERT … ON CONFLICT DO UPDATE by the primary key."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from certorbit.storage.transaction import Transaction

Insert = postgresql.Insert | sqlite.Insert
# Columns → new values of a row that is there already, and when it is changed at all (None: always).
Change = Callable[[Insert], tuple[Mapping[str, Any], sa.ColumnElement[bool] | None]]


class Upsert:
    """The statement for one table, made once for each database: building it takes longer than running it.

    change: see `Change`; without it every column that is not in the key is overwritten.
    """

    def __init__(self, table: sa.Table, *, change: Change | None = None) -> None:
        self._key = [column.name for column in table.primary_key]
        self._changed = [column.name for column in table.c if not column.primary_key]
        self._change = change or self._overwrite
        self._sqlite = self._build(sqlite.insert(table))
        self._postgresql = self._build(postgresql.insert(table))

    def run(self, transaction: Transaction, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> int:
        """Write one row, or several (at least one); return how many were inserted or changed, if it was one."""
        is_postgresql = transaction.connection.dialect.name == "postgresql"
        return transaction.execute(self._postgresql if is_postgresql else self._sqlite, rows).rowcount

    def _overwrite(self, insert: Insert) -> tuple[Mapping[str, Any], None]:
        return {name: insert.excluded[name] for name in self._changed}, None

    def _build(self, insert: Insert) -> Insert:
        values, where = self._change(insert)
        statement = insert.on_conflict_do_update(index_elements=self._key, set_=values, where=where)
        # SQLAlchemy forgets the count of an insert otherwise.
        return statement.execution_options(preserve_rowcount=True)

"""Whether the service as a whole takes writes: one row, for all nodes."""

import sqlalchemy as sa

from certorbit.model.read_only import ReadOnlyMode
from certorbit.storage.tables import read_only_modes
from certorbit.storage.transaction import Transaction
from certorbit.storage.upserts import Upsert

_SERVICE = "service"
_FIND = sa.select(read_only_modes).where(read_only_modes.c.name == sa.bindparam("which"))
_PUT = Upsert(read_only_modes)


class SQLReadOnlyModes:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self) -> ReadOnlyMode:
        row = self._transaction.execute(_FIND, {"which": _SERVICE}).first()
        return ReadOnlyMode(on=False) if row is None else ReadOnlyMode(row.is_on, row.since, row.changed_by)

    def put(self, mode: ReadOnlyMode) -> None:
        row = {"name": _SERVICE, "is_on": mode.on, "since": mode.since, "changed_by": mode.by}
        _PUT.run(self._transaction, row)

"""The known value that shows whether a keyring is this database's."""

import sqlalchemy as sa

from certorbit.storage.tables import keyring_checks
from certorbit.storage.transaction import Transaction

_NAME = "first"
_FIND = sa.select(keyring_checks.c.envelope).where(keyring_checks.c.name == _NAME)


class SQLKeyringChecks:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self) -> bytes | None:
        return self._transaction.execute(_FIND).scalar_one_or_none()

    def add(self, envelope: bytes) -> None:
        self._transaction.execute(sa.insert(keyring_checks), {"name": _NAME, "envelope": envelope})

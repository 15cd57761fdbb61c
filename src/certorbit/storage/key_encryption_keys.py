"""Key-encryption keys, wrapped."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.keyring import StoredKey
from certorbit.storage.tables_keyring import key_encryption_keys
from certorbit.storage.transaction import Transaction

_LIST = sa.select(key_encryption_keys).order_by(key_encryption_keys.c.created_at, key_encryption_keys.c.id)
_FIND = sa.select(key_encryption_keys).where(key_encryption_keys.c.id == sa.bindparam("key"))
_RETIRE = (
    sa.update(key_encryption_keys)
    .where(key_encryption_keys.c.id == sa.bindparam("key"))
    .values(retired_at=sa.bindparam("at", type_=key_encryption_keys.c.retired_at.type))
)


class SQLKeyEncryptionKeys:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list(self) -> Sequence[StoredKey]:
        return [_key(row) for row in self._transaction.execute(_LIST)]

    def find(self, key: str) -> StoredKey | None:
        row = self._transaction.execute(_FIND, {"key": key}).first()
        return _key(row) if row else None

    def add(self, key: StoredKey) -> None:
        values = {
            "id": key.id,
            "provider": key.provider,
            "wrapping_key": key.wrapping_key,
            "wrapped": key.wrapped,
            "created_at": key.created_at,
            "retired_at": key.retired_at,
        }
        self._transaction.execute(sa.insert(key_encryption_keys), values)

    def set_retired(self, key: str, at: datetime | None) -> None:
        self._transaction.change_one(_RETIRE, {"key": key, "at": at}, what=f"key-encryption key {key}")


def _key(row: sa.Row[Any]) -> StoredKey:
    return StoredKey(
        id=row.id,
        provider=row.provider,
        wrapping_key=row.wrapping_key,
        wrapped=bytes(row.wrapped),
        created_at=row.created_at,
        retired_at=row.retired_at,
    )

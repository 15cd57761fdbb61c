"""API keys: digests, never the keys themselves."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.access import APIKey, APIKeyID, Role
from certorbit.storage.tables import api_keys
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_BY_ID = api_keys.c.id == sa.bindparam("key")
_FIND = sa.select(api_keys).where(_BY_ID)
_FIND_BY_DIGEST = sa.select(api_keys).where(api_keys.c.digest == sa.bindparam("wanted"))
_LIST = sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
_COUNT = sa.select(sa.func.count()).select_from(api_keys)
# The first revocation's date stays.
_REVOKE = (
    sa.update(api_keys)
    .where(_BY_ID)
    .values(revoked_at=sa.func.coalesce(api_keys.c.revoked_at, sa.bindparam("now", type_=api_keys.c.revoked_at.type)))
)


class SQLAPIKeys:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, key: APIKey) -> None:
        """Insert it. Raises LostRace if the id or the digest is there already."""
        self._transaction.execute(
            sa.insert(api_keys),
            {
                "id": key.id,
                "name": key.name,
                "prefix": key.prefix,
                "digest": key.digest,
                "role": key.role.value,
                "may_export_keys": key.may_export_keys,
                "created_at": key.created_at,
                "revoked_at": key.revoked_at,
            },
        )

    def find_by_digest(self, digest: str) -> APIKey | None:
        if not is_storable(digest):
            return None
        row = self._transaction.execute(_FIND_BY_DIGEST, {"wanted": digest}).first()
        return _api_key(row) if row else None

    def find(self, key: APIKeyID) -> APIKey | None:
        if not is_storable(key):
            return None
        row = self._transaction.execute(_FIND, {"key": key}).first()
        return _api_key(row) if row else None

    def list(self) -> Sequence[APIKey]:
        """Return all keys, revoked ones too, oldest first."""
        return [_api_key(row) for row in self._transaction.execute(_LIST)]

    def revoke(self, key: APIKeyID, *, now: datetime) -> None:
        """Revoke it; once revoked it stays so with its first date.

        Raises:
            Broken: there is no such key; the caller finds it first.
        """
        self._transaction.change_one(_REVOKE, {"key": key, "now": now}, what=f"API key {key!r}")

    def count(self) -> int:
        return int(self._transaction.execute(_COUNT).scalar_one())


def _api_key(row: sa.Row[Any]) -> APIKey:
    return APIKey(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        digest=row.digest,
        role=Role(row.role),
        may_export_keys=row.may_export_keys,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )

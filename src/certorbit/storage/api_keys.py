"""API keys: digests, never the keys themselves."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.access import APIKey, APIKeyID, KeyUse, Role
from certorbit.storage.advisory_locks import hold
from certorbit.storage.tables import api_keys
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_BY_ID = api_keys.c.id == sa.bindparam("key")
_FIND = sa.select(api_keys).where(_BY_ID)
_FIND_BY_DIGEST = sa.select(api_keys).where(
    sa.or_(api_keys.c.digest == sa.bindparam("wanted"), api_keys.c.previous_digest == sa.bindparam("wanted"))
)
_LIST = sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
_COUNT = sa.select(sa.func.count()).select_from(api_keys)
# The first revocation's date stays.
_REVOKE = (
    sa.update(api_keys)
    .where(_BY_ID)
    .values(revoked_at=sa.func.coalesce(api_keys.c.revoked_at, sa.bindparam("now", type_=api_keys.c.revoked_at.type)))
)
_CHANGEABLE = (
    "name",
    "role",
    "may_export_keys",
    "configurations",
    "allowed_addresses",
    "expires_at",
    "prefix",
    "digest",
    "rotated_at",
    "previous_digest",
    "previous_ends_at",
)
_UPDATE = sa.update(api_keys).where(_BY_ID).values({name: sa.bindparam(f"new_{name}") for name in _CHANGEABLE})
_USED_AT = sa.bindparam("used_at", type_=api_keys.c.last_used_at.type)
_NOTE_USE = (
    sa.update(api_keys)
    .where(_BY_ID, sa.or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < _USED_AT))
    .values(last_used_at=_USED_AT, last_used_from=sa.bindparam("used_from"))
)
_LOCK_NAME = "api keys"


class SQLAPIKeys:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, key: APIKey) -> None:
        """Insert it. Raises LostRace if the id or the digest is there already."""
        self._transaction.execute(sa.insert(api_keys), _values(key))

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

    def lock(self) -> None:
        hold(self._transaction, _LOCK_NAME)

    def update(self, key: APIKey) -> None:
        """Write terms and secrets. Raises Broken if there is no such key, LostRace if a digest is there already."""
        values = _values(key)
        self._transaction.change_one(
            _UPDATE,
            {"key": key.id, **{f"new_{name}": values[name] for name in _CHANGEABLE}},
            what=f"API key {key.id!r}",
        )

    def note_uses(self, uses: Sequence[KeyUse]) -> None:
        # In one order, so that two processes that write the same keys never wait for each other in a circle.
        rows = [
            {"key": use.key, "used_at": use.at, "used_from": use.address}
            for use in sorted(uses, key=lambda use: use.key)
        ]
        if rows:
            self._transaction.execute(_NOTE_USE, rows)

    def revoke(self, key: APIKeyID, *, now: datetime) -> None:
        """Revoke it; once revoked it stays so with its first date.

        Raises:
            Broken: there is no such key; the caller finds it first.
        """
        self._transaction.change_one(_REVOKE, {"key": key, "now": now}, what=f"API key {key!r}")

    def count(self) -> int:
        return int(self._transaction.execute(_COUNT).scalar_one())


def _values(key: APIKey) -> dict[str, Any]:
    values = {field.name: getattr(key, field.name) for field in fields(APIKey)}
    return {**values, "role": key.role.value}


def _api_key(row: sa.Row[Any]) -> APIKey:
    return APIKey(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        digest=row.digest,
        role=Role(row.role),
        may_export_keys=row.may_export_keys,
        configurations=tuple(row.configurations),
        allowed_addresses=tuple(row.allowed_addresses),
        expires_at=row.expires_at,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        rotated_at=row.rotated_at,
        previous_digest=row.previous_digest,
        previous_ends_at=row.previous_ends_at,
        last_used_at=row.last_used_at,
        last_used_from=row.last_used_from or "",
    )

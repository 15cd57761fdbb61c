"""Our records of the copies that providers hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from certorbit.model.balancer import HeldCopy
from certorbit.model.entry import ConfigID, EntryUID
from certorbit.storage.tables_deployment import copies
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Upsert

_IS_HELD = sa.not_(copies.c.is_doomed)
_PUT = Upsert(copies)
_IN_TARGET = copies.c.target == sa.bindparam("named")
_OF_ENTRY = copies.c.entry_uid == sa.bindparam("uid")
_BY_HANDLE = copies.c.handle == sa.bindparam("wanted_handle")
_IN_SCOPE = copies.c.scope == sa.bindparam("within")
_NEWEST = (copies.c.updated_at.desc(), copies.c.handle)
_FIND = sa.select(copies).where(_IN_TARGET, _IN_SCOPE, _OF_ENTRY, _IS_HELD).order_by(*_NEWEST).limit(1)
# Two scopes may use one handle; then the one that is held and the newest is meant.
_FIND_BY_HANDLE = (
    sa.select(copies).where(_IN_TARGET, _BY_HANDLE).order_by(copies.c.is_doomed, *_NEWEST, copies.c.scope).limit(1)
)
_LIST = sa.select(copies).order_by(copies.c.target, copies.c.handle, copies.c.scope)
_LIST_OF_ENTRY = _LIST.where(_OF_ENTRY)
_LIST_OF_TARGET = _LIST.where(_IN_TARGET)
_LIST_IN_SCOPE = _LIST.where(_IN_TARGET, _IN_SCOPE, _OF_ENTRY)
_LIST_HANDLES = sa.select(copies.c.handle).where(_IN_TARGET, _OF_ENTRY)
_LIST_HELD = _LIST.where(_IS_HELD)
_LIST_HELD_OF_CONFIG = _LIST_HELD.where(copies.c.config == sa.bindparam("wanted_config"))
_LIST_DOOMED = (
    sa.select(copies)
    .where(copies.c.is_doomed)
    .order_by(copies.c.updated_at, copies.c.target, copies.c.handle)
    .limit(sa.bindparam("most"))
)
_DELETE = sa.delete(copies).where(_IN_TARGET, _IN_SCOPE, _BY_HANDLE)


class SQLCopies:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def put(self, copy: HeldCopy) -> None:
        _PUT.run(self._transaction, _values(copy))

    def find(self, target: str, scope: str, entry: EntryUID) -> HeldCopy | None:
        return self._first(_FIND, {"named": target, "within": scope, "uid": entry})

    def find_by_handle(self, target: str, handle: str) -> HeldCopy | None:
        return self._first(_FIND_BY_HANDLE, {"named": target, "wanted_handle": handle})

    def list_of_entry(self, entry: EntryUID) -> Sequence[HeldCopy]:
        return self._list(_LIST_OF_ENTRY, {"uid": entry})

    def list_of_target(self, target: str) -> Sequence[HeldCopy]:
        return self._list(_LIST_OF_TARGET, {"named": target})

    def list_in_scope(self, target: str, scope: str, entry: EntryUID) -> Sequence[HeldCopy]:
        return self._list(_LIST_IN_SCOPE, {"named": target, "within": scope, "uid": entry})

    def list_handles(self, target: str, entry: EntryUID) -> frozenset[str]:
        if not (is_storable(target) and is_storable(entry)):
            return frozenset()
        rows = self._transaction.execute(_LIST_HANDLES, {"named": target, "uid": entry})
        return frozenset(row.handle for row in rows)

    def list(self, config: ConfigID | None = None) -> Sequence[HeldCopy]:
        if config is None:
            return self._list(_LIST_HELD, {})
        return self._list(_LIST_HELD_OF_CONFIG, {"wanted_config": config})

    def list_doomed(self, *, limit: int) -> Sequence[HeldCopy]:
        return [_copy(row) for row in self._transaction.execute(_LIST_DOOMED, {"most": limit})]

    def delete(self, target: str, scope: str, handle: str) -> None:
        self._transaction.execute(_DELETE, {"named": target, "within": scope, "wanted_handle": handle})

    def _first(self, statement: sa.Select[Any], parameters: Mapping[str, str]) -> HeldCopy | None:
        found = self._list(statement, parameters)
        return found[0] if found else None

    def _list(self, statement: sa.Select[Any], parameters: Mapping[str, str]) -> Sequence[HeldCopy]:
        if not all(map(is_storable, parameters.values())):
            return []
        return [_copy(row) for row in self._transaction.execute(statement, parameters)]


def _values(copy: HeldCopy) -> Mapping[str, Any]:
    return {
        "target": copy.target,
        "scope": copy.scope,
        "handle": copy.handle,
        "link": copy.link,
        "provider": copy.provider,
        "region": copy.region,
        "config": copy.config,
        "entry_id": copy.entry_id,
        "entry_uid": copy.entry_uid,
        "version": copy.version,
        "updated_at": copy.updated_at,
        "is_doomed": copy.is_doomed,
    }


def _copy(row: sa.Row[Any]) -> HeldCopy:
    return HeldCopy(
        target=row.target,
        scope=row.scope,
        handle=row.handle,
        link=row.link,
        provider=row.provider,
        region=row.region,
        config=row.config,
        entry_id=row.entry_id,
        entry_uid=row.entry_uid,
        version=row.version,
        updated_at=row.updated_at,
        is_doomed=row.is_doomed,
    )

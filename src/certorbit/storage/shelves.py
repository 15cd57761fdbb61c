"""Shelves: what targets serve themselves (certificates, sealed; client policies); a number tells of changes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from certorbit.model.client_policy import ClientPolicy
from certorbit.model.entry import EntryID
from certorbit.model.site import ClientCertificateMode
from certorbit.ports.balancer_store import ShelvedItem
from certorbit.storage.tables_deployment import shelf_items, shelf_policies, shelf_revisions, shelf_slots
from certorbit.storage.transaction import Transaction
from certorbit.storage.upserts import Insert, Upsert

_REVISION = sa.select(shelf_revisions.c.revision).where(shelf_revisions.c.target == sa.bindparam("named"))
# One statement each, so that of two who advance from the same revision one does.
_ADVANCE = (
    sa.update(shelf_revisions)
    .where(shelf_revisions.c.target == sa.bindparam("named"), shelf_revisions.c.revision == sa.bindparam("at"))
    .values(revision=shelf_revisions.c.revision + 1)
)


def _if_blank(_: Insert) -> tuple[Mapping[str, Any], sa.ColumnElement[bool]]:
    return {"revision": shelf_revisions.c.revision + 1}, shelf_revisions.c.revision == 0


_BEGIN = Upsert(shelf_revisions, change=_if_blank)
_LIST_ITEMS = sa.select(shelf_items).where(shelf_items.c.target == sa.bindparam("named")).order_by(shelf_items.c.name)
_PUT_ITEMS = Upsert(shelf_items)
_DELETE_ITEMS = sa.delete(shelf_items).where(
    shelf_items.c.target == sa.bindparam("named"), shelf_items.c.name.in_(sa.bindparam("names", expanding=True))
)
_LIST_SLOTS = sa.select(shelf_slots).where(shelf_slots.c.target == sa.bindparam("named")).order_by(shelf_slots.c.slot)
_PUT_SLOTS = Upsert(shelf_slots)
_DELETE_SLOTS = sa.delete(shelf_slots).where(
    shelf_slots.c.target == sa.bindparam("named"), shelf_slots.c.slot.in_(sa.bindparam("freed", expanding=True))
)
_LIST_POLICIES = (
    sa.select(shelf_policies).where(shelf_policies.c.target == sa.bindparam("named")).order_by(shelf_policies.c.scope)
)
_PUT_POLICIES = Upsert(shelf_policies)
_DELETE_POLICIES = sa.delete(shelf_policies).where(
    shelf_policies.c.target == sa.bindparam("named"), shelf_policies.c.scope.in_(sa.bindparam("lifted", expanding=True))
)


class SQLShelves:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def revision(self, target: str) -> int:
        return int(self._transaction.execute(_REVISION, {"named": target}).scalar() or 0)

    def advance(self, target: str, *, at: int) -> bool:
        if at == 0:
            return _BEGIN.run(self._transaction, {"target": target, "revision": 1}) == 1
        return self._transaction.execute(_ADVANCE, {"named": target, "at": at}).rowcount == 1

    def list_items(self, target: str) -> Sequence[ShelvedItem]:
        rows = self._transaction.execute(_LIST_ITEMS, {"named": target})
        return [ShelvedItem(row.target, row.name, row.bundle, row.sealed_key) for row in rows]

    def list_slots(self, target: str) -> Mapping[str, str]:
        return {row.slot: row.item for row in self._transaction.execute(_LIST_SLOTS, {"named": target})}

    def put_items(self, items: Sequence[ShelvedItem]) -> None:
        rows = [
            {"target": item.target, "name": item.name, "bundle": item.bundle, "sealed_key": item.sealed_key}
            for item in items
        ]
        if rows:
            _PUT_ITEMS.run(self._transaction, rows)

    def delete_items(self, target: str, names: Collection[str]) -> None:
        if names:
            self._transaction.execute(_DELETE_ITEMS, {"named": target, "names": list(names)})

    def put_slots(self, target: str, slots: Mapping[str, str]) -> None:
        taken = [{"target": target, "slot": slot, "item": item} for slot, item in slots.items() if item]
        freed = [slot for slot, item in slots.items() if not item]
        if taken:
            _PUT_SLOTS.run(self._transaction, taken)
        if freed:
            self._transaction.execute(_DELETE_SLOTS, {"named": target, "freed": freed})

    def list_policies(self, target: str) -> Mapping[str, ClientPolicy]:
        return {row.scope: _policy(row) for row in self._transaction.execute(_LIST_POLICIES, {"named": target})}

    def put_policies(self, target: str, policies: Mapping[str, ClientPolicy | None]) -> None:
        wanted = [
            {
                "target": target,
                "scope": scope,
                "mode": policy.mode.value,
                "bundle": policy.bundle,
                "ca_pem": policy.ca_pem,
                "crl_pem": policy.crl_pem,
            }
            for scope, policy in policies.items()
            if policy is not None
        ]
        lifted = [scope for scope, policy in policies.items() if policy is None]
        if wanted:
            _PUT_POLICIES.run(self._transaction, wanted)
        if lifted:
            self._transaction.execute(_DELETE_POLICIES, {"named": target, "lifted": lifted})


def _policy(row: sa.Row[Any]) -> ClientPolicy:
    return ClientPolicy(
        mode=ClientCertificateMode(row.mode), bundle=EntryID(row.bundle), ca_pem=row.ca_pem, crl_pem=row.crl_pem
    )

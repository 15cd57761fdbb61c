"""The shelf of a target that serves certificates itself, in the store: keys sealed, the rest as JSON text."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from certorbit.errors import LostRace
from certorbit.model.balancer import Bundle
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.entry import ConfigID, EntryID, EntryUID, VersionID
from certorbit.model.keyring import shelf_key_context
from certorbit.model.material import CertificateFacts, PrivateKeyPEM
from certorbit.ports.balancer_store import ShelvedItem
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.ports.target import ShelfItem, ShelfState

_INSTANTS: Final = frozenset({"not_before", "not_after"})
_LISTS: Final = frozenset({"san", "cdp"})


@dataclass(frozen=True, slots=True)
class _Sealed:
    """The shelf as it lies in the store."""

    revision: int
    items: Sequence[ShelvedItem]
    slots: Mapping[str, str]
    policies: Mapping[str, ClientPolicy]


class StoredShelf:
    """Implements `ports.target.Shelf`."""

    def __init__(self, *, store: Store, keyring: Keyring, target: str) -> None:
        self._store = store
        self._keyring = keyring
        self._target = target

    async def revision(self) -> int:
        return await self._store.read(lambda tx: tx.shelves.revision(self._target))

    async def load(self) -> ShelfState:
        """Return the shelf as it is at one instant.

        Raises:
            Broken: a key was sealed by another key-encryption key, or is damaged.
            Unreachable: the database.
        """
        return self._open(await self._store.read(self._read))

    async def change(
        self,
        *,
        at: int,
        put: Sequence[ShelfItem] = (),
        remove: Collection[str] = (),
        slots: Mapping[str, str] | None = None,
        policies: Mapping[str, ClientPolicy | None] | None = None,
    ) -> ShelfState:
        items = [self._seal(item) for item in put]

        def work(tx: UnitOfWork) -> _Sealed | None:
            # Not by LostRace: the store would run this again, and the revision would still be another one.
            if not tx.shelves.advance(self._target, at=at):
                return None
            tx.shelves.delete_items(self._target, remove)
            tx.shelves.put_items(items)
            tx.shelves.put_slots(self._target, slots or {})
            tx.shelves.put_policies(self._target, policies or {})
            return self._read(tx)

        changed = await self._store.write(work)
        if changed is None:
            raise LostRace(f"The shelf of {self._target} was changed meanwhile.", subject=self._target)
        return self._open(changed)

    def _read(self, tx: UnitOfWork) -> _Sealed:
        return _Sealed(
            tx.shelves.revision(self._target),
            tx.shelves.list_items(self._target),
            tx.shelves.list_slots(self._target),
            tx.shelves.list_policies(self._target),
        )

    def _seal(self, item: ShelfItem) -> ShelvedItem:
        bundle = item.bundle
        shown = {
            "config": bundle.config,
            "entry_id": bundle.entry_id,
            "entry_uid": bundle.entry_uid,
            "version": bundle.version,
            "chain_pem": bundle.chain_pem,
            "facts": _facts_values(bundle.facts),
        }
        return ShelvedItem(
            target=self._target,
            name=item.name,
            bundle=json.dumps(shown, separators=(",", ":")),
            sealed_key=self._keyring.seal(bundle.key.reveal().encode(), context=self._context(item.name)),
        )

    def _open(self, sealed: _Sealed) -> ShelfState:
        return ShelfState(sealed.revision, tuple(map(self._open_item, sealed.items)), sealed.slots, sealed.policies)

    def _open_item(self, item: ShelvedItem) -> ShelfItem:
        shown: Mapping[str, Any] = json.loads(item.bundle)
        key = self._keyring.open(item.sealed_key, context=self._context(item.name))
        bundle = Bundle(
            config=ConfigID(shown["config"]),
            entry_id=EntryID(shown["entry_id"]),
            entry_uid=EntryUID(shown["entry_uid"]),
            version=VersionID(shown["version"]),
            chain_pem=shown["chain_pem"],
            key=PrivateKeyPEM(key.decode()),
            facts=_facts_from(shown["facts"]),
        )
        return ShelfItem(name=item.name, bundle=bundle)

    def _context(self, name: str) -> str:
        return shelf_key_context(self._target, name)


def _facts_values(facts: CertificateFacts) -> Mapping[str, Any]:
    values = {field.name: getattr(facts, field.name) for field in fields(facts)}
    return {name: value.isoformat() if name in _INSTANTS else value for name, value in values.items()}


def _facts_from(stored: Mapping[str, Any]) -> CertificateFacts:
    values: dict[str, Any] = dict(stored)
    values |= {name: datetime.fromisoformat(values[name]) for name in _INSTANTS}
    values |= {name: tuple(values[name]) for name in _LISTS}
    return CertificateFacts(**values)

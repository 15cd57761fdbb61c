"""Every sealed column: where it is, and what binds its envelopes to their rows."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from certorbit.model.entry import VersionID, key_context
from certorbit.model.keyring import (
    ISSUING_KEY_CONTEXT,
    KNOWN_VALUE_CONTEXT,
    ROOT_KEY_CONTEXT,
    SealedSecret,
    shelf_key_context,
)
from certorbit.model.order import OrderID, account_key_context, order_key_context
from certorbit.storage.tables import acme_accounts, authorities, keyring_checks, order_intents, versions
from certorbit.storage.tables_deployment import shelf_items
from certorbit.storage.transaction import Transaction


@dataclass(frozen=True, slots=True)
class _Place:
    """context: of the primary key's values, in the order of the table."""

    column: sa.Column[Any]
    context: Callable[..., str]

    @property
    def table(self) -> sa.Table:
        table: sa.Table = self.column.table
        return table

    @property
    def kind(self) -> str:
        return f"{self.table.name}.{self.column.name}"

    @property
    def key(self) -> list[sa.Column[Any]]:
        return list(self.table.primary_key.columns)


_PLACES: Final[Mapping[str, _Place]] = {
    place.kind: place
    for place in (
        _Place(keyring_checks.c.envelope, lambda _name: KNOWN_VALUE_CONTEXT),
        _Place(authorities.c.sealed_root_key, lambda _name: ROOT_KEY_CONTEXT),
        _Place(authorities.c.sealed_issuing_key, lambda _name: ISSUING_KEY_CONTEXT),
        _Place(acme_accounts.c.sealed_key, account_key_context),
        _Place(versions.c.sealed_key, lambda version: key_context(VersionID(version))),
        _Place(order_intents.c.sealed_key, lambda order: order_key_context(OrderID(order))),
        _Place(shelf_items.c.sealed_key, shelf_key_context),
    )
}


def _is_sealed(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    """Return whether there is an envelope: none for CA bundles, an empty one where the key was dropped after use."""
    return sa.func.length(column) > 0


def _key_id(column: sa.Column[Any]) -> sa.ColumnElement[bytes]:
    """Return the bytes of an envelope that name its key (keys/envelope.py: 8 behind the version marker)."""
    start: sa.ColumnClause[int] = sa.literal_column("2")
    length: sa.ColumnClause[int] = sa.literal_column("8")
    return sa.func.substr(column, start, length, type_=sa.LargeBinary)


class SQLSealedSecrets:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def kinds(self) -> Sequence[str]:
        return list(_PLACES)

    def count_by_key(self) -> Mapping[str, int]:
        counts: Counter[str] = Counter()
        for place in _PLACES.values():
            key_id = _key_id(place.column)
            statement = sa.select(key_id, sa.func.count()).where(_is_sealed(place.column)).group_by(key_id)
            for row in self._transaction.execute(statement):
                named, count = tuple(row)
                counts[bytes(named).hex()] += count
        return counts

    def list_others(self, kind: str, *, than: str, after: tuple[str, ...] | None, limit: int) -> Sequence[SealedSecret]:
        place = _PLACES[kind]
        statement = (
            sa.select(*place.key, place.column)
            .where(_is_sealed(place.column), _key_id(place.column) != bytes.fromhex(than))
            .order_by(*place.key)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(sa.tuple_(*place.key) > sa.tuple_(*after))
        found = []
        for row in self._transaction.execute(statement):
            columns: tuple[Any, ...] = tuple(row)
            key, envelope = columns[:-1], bytes(columns[-1])
            found.append(SealedSecret(kind, key, place.context(*key), envelope))
        return found

    def replace(self, secret: SealedSecret, envelope: bytes) -> bool:
        place = _PLACES[secret.kind]
        is_row = [column == value for column, value in zip(place.key, secret.key, strict=True)]
        statement = sa.update(place.table).where(*is_row, place.column == secret.envelope)
        return self._transaction.execute(statement.values({place.column: envelope})).rowcount == 1

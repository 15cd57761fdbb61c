"""Whose turn it is at what only one may do at a time."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.storage.tables_deployment import named_turns
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Insert, Upsert

_NOW = sa.bindparam("now", type_=named_turns.c.ends_at.type)


def _if_free(insert: Insert) -> tuple[Mapping[str, Any], sa.ColumnElement[bool]]:
    """Give the row to the taker if its holder's time is over, or if the taker is its holder."""
    taker = insert.excluded
    is_free = sa.or_(named_turns.c.ends_at <= _NOW, named_turns.c.holder == taker.holder)
    return {"holder": taker.holder, "ends_at": taker.ends_at}, is_free


_TAKE = Upsert(named_turns, change=_if_free)
_IS_TAKEN = sa.select(named_turns.c.name).where(
    named_turns.c.name == sa.bindparam("wanted"), named_turns.c.ends_at > _NOW
)
_GIVE_BACK = sa.delete(named_turns).where(
    named_turns.c.name == sa.bindparam("wanted"), named_turns.c.holder == sa.bindparam("whose")
)


class SQLNamedTurns:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def take(self, name: str, holder: str, *, now: datetime, until: datetime) -> bool:
        turn = {"name": name, "holder": holder, "ends_at": until, "now": now}
        return _TAKE.run(self._transaction, turn) == 1

    def is_taken(self, name: str, *, now: datetime) -> bool:
        if not is_storable(name):
            return False
        found = self._transaction.execute(_IS_TAKEN, {"wanted": name, "now": now})
        return found.first() is not None

    def give_back(self, name: str, holder: str) -> None:
        self._transaction.execute(_GIVE_BACK, {"wanted": name, "whose": holder})

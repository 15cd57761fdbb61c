"""Who publishes a configuration now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.entry import ConfigID
from certorbit.storage.tables_deployment import publish_turns
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Insert, Upsert

_NOW = sa.bindparam("now", type_=publish_turns.c.ends_at.type)


def _if_free(insert: Insert) -> tuple[Mapping[str, Any], sa.ColumnElement[bool]]:
    """Give the row to the taker if its holder's time is over, or if the taker is its holder."""
    taker = insert.excluded
    is_free = sa.or_(publish_turns.c.ends_at <= _NOW, publish_turns.c.holder == taker.holder)
    return {"holder": taker.holder, "ends_at": taker.ends_at}, is_free


_TAKE = Upsert(publish_turns, change=_if_free)
_IS_TAKEN = sa.select(publish_turns.c.config).where(
    publish_turns.c.config == sa.bindparam("wanted_config"), publish_turns.c.ends_at > _NOW
)
_GIVE_BACK = sa.delete(publish_turns).where(
    publish_turns.c.config == sa.bindparam("wanted_config"), publish_turns.c.holder == sa.bindparam("whose")
)


class SQLPublishTurns:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def take(self, config: ConfigID, holder: str, *, now: datetime, until: datetime) -> bool:
        turn = {"config": config, "holder": holder, "ends_at": until, "now": now}
        return _TAKE.run(self._transaction, turn) == 1

    def is_taken(self, config: ConfigID, *, now: datetime) -> bool:
        if not is_storable(config):
            return False
        found = self._transaction.execute(_IS_TAKEN, {"wanted_config": config, "now": now})
        return found.first() is not None

    def give_back(self, config: ConfigID, holder: str) -> None:
        self._transaction.execute(_GIVE_BACK, {"wanted_config": config, "whose": holder})

"""The operator's configurations."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.entry import ConfigID, Configuration
from certorbit.storage.tables import configurations
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_LIST = sa.select(configurations).order_by(configurations.c.id)
_FIND = sa.select(configurations).where(configurations.c.id == sa.bindparam("config"))
_TOUCH = (
    sa.update(configurations)
    .where(configurations.c.id == sa.bindparam("config"))
    .values(version=configurations.c.version + 1, date=sa.bindparam("now"))
)


class SQLConfigurations:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list(self) -> Sequence[Configuration]:
        return [_configuration(row) for row in self._transaction.execute(_LIST)]

    def find(self, config: ConfigID) -> Configuration | None:
        if not is_storable(config):
            return None
        row = self._transaction.execute(_FIND, {"config": config}).first()
        return _configuration(row) if row else None

    def add(self, configuration: Configuration) -> None:
        """Insert it. Raises LostRace if the id is there already."""
        self._transaction.execute(
            sa.insert(configurations),
            {
                "id": configuration.id,
                "description": configuration.description,
                "version": configuration.version,
                "date": configuration.date,
            },
        )

    def touch(self, config: ConfigID, *, now: datetime) -> None:
        self._transaction.change_one(_TOUCH, {"config": config, "now": now}, what=f"configuration {config!r}")


def _configuration(row: sa.Row[Any]) -> Configuration:
    return Configuration(id=row.id, description=row.description, version=row.version, date=row.date)

"""The operator's configurations, and what each of their versions changed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.errors import Broken
from certorbit.model.audit import event_of_changes
from certorbit.model.change import Change, ChangeKind, ConfigurationVersion
from certorbit.model.entry import ConfigID, Configuration
from certorbit.storage.audit import SQLAuditTrail
from certorbit.storage.tables import configuration_versions, configurations
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_LIST = sa.select(configurations).order_by(configurations.c.id)
_FIND = sa.select(configurations).where(configurations.c.id == sa.bindparam("config"))
_LOCK = _FIND.with_for_update(key_share=True)  # what refers to the row can still be inserted meanwhile
# The row's lock makes the writers of one configuration take turns, so no number is given twice.
_COUNT_UP = (
    sa.update(configurations)
    .where(configurations.c.id == sa.bindparam("config"))
    .values(version=configurations.c.version + 1, date=sa.bindparam("now"))
    .returning(configurations.c.version)
)
_RECORD = sa.insert(configuration_versions)
_OF_CONFIG = sa.select(configuration_versions).where(configuration_versions.c.config == sa.bindparam("wanted_config"))
_number = configuration_versions.c.number
_PAGE = _OF_CONFIG.where(_number < sa.bindparam("before")).order_by(_number.desc()).limit(sa.bindparam("most"))
_AFTER = _OF_CONFIG.where(_number > sa.bindparam("after")).order_by(_number.desc())
_COUNT = (
    sa.select(sa.func.count())
    .select_from(configuration_versions)
    .where(configuration_versions.c.config == sa.bindparam("wanted_config"))
)
_FIND_VERSION = _OF_CONFIG.where(_number == sa.bindparam("wanted"))
_HIGHEST = 2**63 - 1  # of a 64-bit column; clients may ask for any number


class SQLConfigurations:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list(self) -> Sequence[Configuration]:
        return [_configuration(row) for row in self._transaction.execute(_LIST)]

    def find(self, config: ConfigID) -> Configuration | None:
        return self._find(_FIND, config)

    def lock(self, config: ConfigID) -> Configuration | None:
        return self._find(_LOCK, config)

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

    def record(
        self, config: ConfigID, changes: Sequence[Change], *, by: str, now: datetime, operation: str = ""
    ) -> int:
        """Write it down (ports/store.py).

        Raises:
            Broken: there is no such configuration; the caller finds it first.
        """
        number = self._transaction.execute(_COUNT_UP, {"config": config, "now": now}).scalar_one_or_none()
        if number is None:
            what = f"configuration {config!r}"
            raise Broken(f"{what} is not in the store, so it can't be changed.", subject=what)
        self._transaction.execute(
            _RECORD,
            {
                "config": config,
                "number": number,
                "changed_at": now,
                "changed_by": by,
                "changes": [[change.kind.value, change.id, change.before, change.after] for change in changes],
            },
        )
        event = event_of_changes(config, changes, version=int(number), operation=operation)
        SQLAuditTrail(self._transaction).add(event, now=now)
        return int(number)

    def list_versions(
        self, config: ConfigID, *, before: int | None = None, limit: int = 100
    ) -> Sequence[ConfigurationVersion]:
        bound = _HIGHEST if before is None else min(before, _HIGHEST)
        return self._list_versions(_PAGE, config, before=max(bound, 0), most=limit)

    def list_versions_after(self, config: ConfigID, number: int) -> Sequence[ConfigurationVersion]:
        return self._list_versions(_AFTER, config, after=max(0, min(number, _HIGHEST)))

    def find_version(self, config: ConfigID, number: int) -> ConfigurationVersion | None:
        if not 0 <= number <= _HIGHEST:
            return None
        found = self._list_versions(_FIND_VERSION, config, wanted=number)
        return found[0] if found else None

    def count_versions(self, config: ConfigID) -> int:
        if not is_storable(config):
            return 0
        return int(self._transaction.execute(_COUNT, {"wanted_config": config}).scalar_one())

    def _find(self, statement: sa.Select[Any], config: ConfigID) -> Configuration | None:
        if not is_storable(config):
            return None
        row = self._transaction.execute(statement, {"config": config}).first()
        return _configuration(row) if row else None

    def _list_versions(
        self, statement: sa.Select[Any], config: ConfigID, **numbers: int
    ) -> Sequence[ConfigurationVersion]:
        if not is_storable(config):
            return []
        return [_version(row) for row in self._transaction.execute(statement, {"wanted_config": config, **numbers})]


def _configuration(row: sa.Row[Any]) -> Configuration:
    return Configuration(id=row.id, description=row.description, version=row.version, date=row.date)


def _version(row: sa.Row[Any]) -> ConfigurationVersion:
    return ConfigurationVersion(
        config=row.config,
        number=row.number,
        at=row.changed_at,
        by=row.changed_by,
        changes=tuple(
            Change(kind=ChangeKind(kind), id=subject, before=before, after=after)
            for kind, subject, before, after in row.changes
        ),
    )

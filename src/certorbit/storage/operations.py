"""Operations: workflows as users see them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.entry import ConfigID, EntryID, EntryUID
from certorbit.model.operation import (
    Lane,
    Operation,
    OperationID,
    OperationKind,
    OperationState,
    problem_from_json,
    problem_to_json,
)
from certorbit.storage.tables import UNFINISHED, operations
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_BY_ID = operations.c.id == sa.bindparam("operation")
_FIND = sa.select(operations).where(_BY_ID)
# SQLite knows no row locks and needs none: a writing transaction is alone there. `key_share`: not against rows that
# refer to this one by its key.
_LOCK = _FIND.with_for_update(key_share=True)
_LOCK_UNFINISHED = (
    sa.select(operations)
    .where(
        operations.c.entry_uid == sa.bindparam("uid"),
        operations.c.lane == sa.bindparam("wanted_lane"),
        # Literals: the partial index serves only a condition that is known when the query is planned.
        operations.c.state.in_([sa.literal_column(f"'{state}'") for state in UNFINISHED]),
    )
    .with_for_update(key_share=True)
)
_LIST_STATES = sa.select(operations.c.id, operations.c.state).where(
    operations.c.id.in_(sa.bindparam("ids", expanding=True))
)
_COUNT_STATES = (
    sa.select(operations.c.state, sa.func.count().label("number"))
    .where(
        operations.c.created_at >= sa.bindparam("since", type_=operations.c.created_at.type),
        operations.c.lane == sa.bindparam("wanted_lane"),
    )
    .group_by(operations.c.state)
)
_CHANGEABLE = (
    "state",
    "attempt",
    "promised",
    "updated_at",
    "finished_at",
    "next_attempt_at",
    "issuer_name",
    "problem",
    "overtaken",
)
_UPDATE = sa.update(operations).where(_BY_ID).values({name: sa.bindparam(f"new_{name}") for name in _CHANGEABLE})


class SQLOperations:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, operation: Operation) -> None:
        """Insert it. Raises LostRace if the entry has an unfinished one in its lane: another writer came first."""
        self._transaction.execute(sa.insert(operations), _values(operation))

    def find(self, operation: OperationID) -> Operation | None:
        return self._find(_FIND, {"operation": operation})

    def lock(self, operation: OperationID) -> Operation | None:
        return self._find(_LOCK, {"operation": operation})

    def lock_unfinished(self, entry: EntryUID, lane: Lane = Lane.ISSUANCE) -> Operation | None:
        return self._find(_LOCK_UNFINISHED, {"uid": entry, "wanted_lane": lane.value})

    def _find(self, statement: sa.Select[Any], parameters: Mapping[str, str]) -> Operation | None:
        if not _can_match(*parameters.values()):
            return None
        row = self._transaction.execute(statement, parameters).first()
        return _operation(row) if row else None

    def update(self, operation: Operation) -> None:
        values = _values(operation)
        self._transaction.change_one(
            _UPDATE,
            {"operation": operation.id, **{f"new_{name}": values[name] for name in _CHANGEABLE}},
            what=f"operation {operation.id!r}",
        )

    def list_states(self, operations: Sequence[OperationID]) -> dict[OperationID, OperationState]:
        ids = [operation for operation in operations if is_storable(operation)]
        if not ids:
            return {}
        rows = self._transaction.execute(_LIST_STATES, {"ids": ids})
        return {OperationID(row.id): OperationState(row.state) for row in rows}

    def list(
        self,
        *,
        config: ConfigID | frozenset[ConfigID] | None = None,
        entry: EntryID | None = None,
        state: OperationState | None = None,
        lane: Lane | None = None,
        before: tuple[datetime, OperationID] | None = None,
        limit: int = 100,
    ) -> Sequence[Operation]:
        if not _can_match(*_several(config), entry, before[1] if before else None):
            return []
        statement = sa.select(operations).where(*_filters(config=config, entry=entry, state=state, lane=lane))
        if before is not None:
            created_at, identity = operations.c.created_at, operations.c.id
            statement = statement.where(
                sa.tuple_(created_at, identity)
                < sa.tuple_(sa.literal(before[0], created_at.type), sa.literal(before[1], identity.type))
            )
        statement = statement.order_by(operations.c.created_at.desc(), operations.c.id.desc()).limit(limit)
        return [_operation(row) for row in self._transaction.execute(statement)]

    def count(
        self,
        *,
        config: ConfigID | frozenset[ConfigID] | None = None,
        entry: EntryID | None = None,
        state: OperationState | None = None,
        lane: Lane | None = None,
    ) -> int:
        if not _can_match(*_several(config), entry):
            return 0
        statement = (
            sa.select(sa.func.count())
            .select_from(operations)
            .where(*_filters(config=config, entry=entry, state=state, lane=lane))
        )
        return int(self._transaction.execute(statement).scalar_one())

    def count_states(self, *, lane: Lane, since: datetime) -> Mapping[OperationState, int]:
        rows = self._transaction.execute(_COUNT_STATES, {"wanted_lane": lane.value, "since": since})
        return {OperationState(row.state): row.number for row in rows}


def _can_match(*texts: str | None) -> bool:
    return all(text is None or is_storable(text) for text in texts)


def _several(config: ConfigID | frozenset[ConfigID] | None) -> Sequence[ConfigID | None]:
    return sorted(config) if isinstance(config, frozenset) else [config]


def _filters(
    *,
    config: ConfigID | frozenset[ConfigID] | None,
    entry: EntryID | None,
    state: OperationState | None,
    lane: Lane | None,
) -> Sequence[sa.ColumnElement[bool]]:
    several = isinstance(config, frozenset)
    wanted = (
        (operations.c.config, None if several else config),
        (operations.c.entry_id, entry),
        (operations.c.state, state),
        (operations.c.lane, lane),
    )
    conditions = [column == value for column, value in wanted if value is not None]
    if several:
        conditions.append(operations.c.config.in_(_several(config)))
    return conditions or [sa.true()]


def _values(operation: Operation) -> Mapping[str, Any]:
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "config": operation.config,
        "entry_id": operation.entry_id,
        "entry_uid": operation.entry_uid,
        "identifiers": operation.identifiers,
        "state": operation.state.value,
        "attempt": operation.attempt,
        "promised": operation.promised,
        "created_at": operation.created_at,
        "updated_at": operation.updated_at,
        "finished_at": operation.finished_at,
        "next_attempt_at": operation.next_attempt_at,
        "issuer_name": operation.issuer_name,
        "problem": problem_to_json(operation.problem) if operation.problem else None,
        "lane": operation.kind.lane.value,
        "overtaken": operation.overtaken or None,
    }


def _operation(row: sa.Row[Any]) -> Operation:
    return Operation(
        id=row.id,
        kind=OperationKind(row.kind),
        config=row.config,
        entry_id=row.entry_id,
        entry_uid=row.entry_uid,
        identifiers=tuple(row.identifiers),
        state=OperationState(row.state),
        attempt=row.attempt,
        promised=row.promised,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        next_attempt_at=row.next_attempt_at,
        issuer_name=row.issuer_name,
        problem=problem_from_json(row.problem) if row.problem is not None else None,
        overtaken=tuple(row.overtaken or ()),
    )

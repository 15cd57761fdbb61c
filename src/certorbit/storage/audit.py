"""The audit trail: records written with what they are about, and chained afterwards, by one sealer at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.errors import Broken
from certorbit.model.audit import (
    Action,
    Actor,
    ActorKind,
    AuditEvent,
    AuditQuery,
    AuditRecord,
    ChainPoint,
    ChainState,
    ObjectChange,
    canonical,
    digest,
)
from certorbit.storage.tables_audit import audit_chains, audit_records
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_C = audit_records.c
_ADD = sa.insert(audit_records)
_CHAIN = sa.select(audit_chains).where(audit_chains.c.name == "audit")
_LOCK = _CHAIN.with_for_update()
_MOVE_HEAD = (
    sa.update(audit_chains)
    .where(audit_chains.c.name == "audit")
    .values(number=sa.bindparam("to_number"), hash=sa.bindparam("to_hash"))
)
_MOVE_ANCHOR = (
    sa.update(audit_chains)
    .where(audit_chains.c.name == "audit")
    .values(anchor_number=sa.bindparam("to_number"), anchor_hash=sa.bindparam("to_hash"))
)
_UNSEALED = sa.select(audit_records).where(_C.number.is_(None)).order_by(_C.id).limit(sa.bindparam("most"))
_HIGHEST = sa.select(sa.func.max(_C.number))
_ANY_UNSEALED = sa.select(_C.id).where(_C.number.is_(None)).limit(1)
_SEAL = (
    sa.update(audit_records)
    .where(_C.id == sa.bindparam("sealed_id"))
    .values(number=sa.bindparam("to_number"), previous_hash=sa.bindparam("to_previous"), hash=sa.bindparam("to_hash"))
)
_SEALED = (
    sa.select(audit_records).where(_C.number > sa.bindparam("after")).order_by(_C.number).limit(sa.bindparam("most"))
)
_OLDEST = (
    sa.select(_C.number, _C.hash, _C.at)
    .where(_C.number > sa.bindparam("after"))
    .order_by(_C.number)
    .limit(sa.bindparam("most"))
)
_DELETE = sa.delete(audit_records).where(_C.number <= sa.bindparam("last"))


class SQLAuditTrail:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, event: AuditEvent, *, now: datetime) -> None:
        self._transaction.execute(_ADD, _values(event, self._transaction.actor, now=now))

    def seal(self, *, limit: int) -> int:
        # The lock makes sealers take turns; whoever writes records never waits for it. What is not committed yet is
        # not seen here and is linked by a later call, so no order of commits leaves a gap.
        point = self._lock().head
        highest = self._transaction.execute(_HIGHEST).scalar_one()
        if highest is not None and highest > point.number:
            raise Broken(
                f"The audit trail has a record {highest}, but its chain ends with {point.number}: somebody has changed"
                " the database.",
                subject="audit_chains",
            )
        links = []
        for unsealed in self._read(_UNSEALED, {"most": limit}):
            record = replace(unsealed, number=point.number + 1, previous=point.hash)
            point = ChainPoint(point.number + 1, digest(record.document()))
            links.append(
                {
                    "sealed_id": record.place,
                    "to_number": point.number,
                    "to_previous": record.previous,
                    "to_hash": point.hash,
                }
            )
        if links:
            self._transaction.execute(_SEAL, links)
            self._transaction.change_one(
                _MOVE_HEAD, {"to_number": point.number, "to_hash": point.hash}, what="the audit trail's chain"
            )
        return len(links)

    def has_unsealed(self) -> bool:
        return self._transaction.execute(_ANY_UNSEALED).first() is not None

    def state(self) -> ChainState:
        return _state(self._transaction.execute(_CHAIN).first())

    def list(self, query: AuditQuery, *, before: int | None, limit: int) -> Sequence[AuditRecord]:
        if not _can_match(query):
            return []
        statement = sa.select(audit_records).where(*_conditions(query)).order_by(_C.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(_C.id < before)
        return self._read(statement)

    def count(self, query: AuditQuery) -> int:
        if not _can_match(query):
            return 0
        statement = sa.select(sa.func.count()).select_from(audit_records).where(*_conditions(query))
        return int(self._transaction.execute(statement).scalar_one())

    def list_sealed(self, *, after: int, limit: int) -> Sequence[AuditRecord]:
        return self._read(_SEALED, {"after": after, "most": limit})

    def expire(self, *, before: datetime, limit: int) -> tuple[int, ChainPoint]:
        state = self._lock()
        anchor, count = state.anchor, 0
        for row in self._transaction.execute(_OLDEST, {"after": anchor.number, "most": limit}).all():
            if row.at >= before or row.number >= state.head.number:
                break
            anchor, count = ChainPoint(row.number, row.hash), count + 1
        if count:
            self._transaction.execute(_DELETE, {"last": anchor.number})
            self._transaction.change_one(
                _MOVE_ANCHOR, {"to_number": anchor.number, "to_hash": anchor.hash}, what="the audit trail's chain"
            )
        return count, anchor

    def _read(self, statement: sa.Select[Any], parameters: Mapping[str, Any] | None = None) -> Sequence[AuditRecord]:
        """Return the rows' records. Raises Broken: one of them is none."""
        number: int | None = None
        try:
            records = []
            for row in self._transaction.execute(statement, parameters):
                number = row.number
                records.append(_record(row))
        except (ValueError, TypeError, AttributeError) as error:
            at = "" if number is None else f" at record {number} or after it"
            raise Broken(
                f"The audit trail can't be read{at}: a row holds what no record does, so somebody has changed it.",
                subject="audit_records",
            ) from error
        return records

    def _lock(self) -> ChainState:
        return _state(self._transaction.execute(_LOCK).first())


def _state(row: sa.Row[Any] | None) -> ChainState:
    if row is None:
        raise Broken("The row of the audit trail's chain is gone: somebody deleted it.", subject="audit_chains")
    return ChainState(ChainPoint(row.number, row.hash), ChainPoint(row.anchor_number, row.anchor_hash))


def _can_match(query: AuditQuery) -> bool:
    return all(is_storable(text) for text in (query.config, query.who, query.action, query.object) if text is not None)


def _conditions(query: AuditQuery) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if query.config is not None:
        found.append(_C.config == query.config)
    if query.who is not None:
        found.append(sa.or_(_C.key_id == query.who, _C.actor_name == query.who))
    if query.action is not None:
        found.append(_C.action == query.action)
    if query.object is not None:
        # Each id stands there as JSON text in quotes; a quote within one is escaped, so none is part of another.
        objects = sa.type_coerce(_C.objects, sa.Text)
        found.append(objects.contains(canonical(query.object), autoescape=True))
    if query.since is not None:
        found.append(_C.at >= query.since)
    if query.until is not None:
        found.append(_C.at < query.until)
    return found


def _values(event: AuditEvent, actor: Actor, *, now: datetime) -> Mapping[str, Any]:
    return {
        "at": now,
        "actor_kind": actor.kind.value,
        "actor_name": actor.name,
        "key_id": actor.key_id,
        "role": actor.role,
        "address": actor.address,
        "method": actor.method,
        "route": actor.route,
        "request_id": actor.request_id,
        "action": event.action.value,
        "config": event.config,
        "objects": event.objects,
        "operation": event.operation,
        "changes": [[change.kind, change.id, change.before, change.after] for change in event.changes],
        "details": event.details,
    }


def _record(row: sa.Row[Any]) -> AuditRecord:
    return AuditRecord(
        place=row.id,
        at=row.at,
        actor=Actor(
            kind=ActorKind(row.actor_kind),
            name=row.actor_name,
            key_id=row.key_id,
            role=row.role,
            address=row.address,
            method=row.method,
            route=row.route,
            request_id=row.request_id,
        ),
        event=AuditEvent(
            action=Action(row.action),
            config=row.config,
            objects=tuple(row.objects),
            operation=row.operation,
            changes=tuple(ObjectChange(*change) for change in row.changes),
            details=row.details,
        ),
        number=row.number,
        previous=row.previous_hash,
        hash=row.hash,
    )

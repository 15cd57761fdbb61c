"""Schedules: every entry's own timer, found by an index, and whose turn the sweep is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from certorbit.model.entry import Entry, EntryUID, Source
from certorbit.model.renewal import RenewalInfo
from certorbit.model.schedule import Maker, Schedule
from certorbit.storage.entries import JOINED, entry_from
from certorbit.storage.tables import entries, renewals, sweeps, versions
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Upsert

_SCHEDULE = (
    renewals.c.renew_at,
    renewals.c.reason,
    renewals.c.info,
    renewals.c.paused,
    renewals.c.issuer,
    renewals.c.predecessor_not_before,
)
_WITH_SCHEDULE = JOINED.add_columns(entries.c.due_at, *_SCHEDULE).outerjoin(
    renewals, renewals.c.entry_uid == entries.c.uid
)
_FIND = (
    sa.select(entries.c.due_at, *_SCHEDULE)
    .select_from(entries.outerjoin(renewals, renewals.c.entry_uid == entries.c.uid))
    .where(entries.c.uid == sa.bindparam("entry"))
)
_DUE = (
    _WITH_SCHEDULE.where(entries.c.due_at <= sa.bindparam("now", type_=entries.c.due_at.type))
    .order_by(entries.c.due_at)
    .limit(sa.bindparam("most"))
)
_PLANNED = (
    _WITH_SCHEDULE.where(renewals.c.renew_at <= sa.bindparam("until", type_=renewals.c.renew_at.type))
    .order_by(renewals.c.renew_at)
    .limit(sa.bindparam("most"))
)
_UNPLANNED = (
    _WITH_SCHEDULE.where(versions.c.id.is_not(None), entries.c.due_at.is_not(None), renewals.c.renew_at.is_(None))
    .order_by(versions.c.not_after)
    .limit(sa.bindparam("most"))
)
_NOW = sa.bindparam("now", type_=entries.c.due_at.type)
_WAKE = (
    sa.update(entries)
    .where(
        entries.c.due_at > _NOW,
        ~sa.exists().where(renewals.c.entry_uid == entries.c.uid, renewals.c.renew_at.is_not(None)),
    )
    .values(due_at=_NOW)
)
_CHOSEN = sa.func.coalesce(renewals.c.issuer, "")
_MAKERS = (
    sa.select(entries.c.config, versions.c.issuer_name, _CHOSEN, sa.func.count())
    .select_from(
        entries.join(versions, entries.c.current_version == versions.c.id).outerjoin(
            renewals, renewals.c.entry_uid == entries.c.uid
        )
    )
    .where(versions.c.source == Source.GENERATED.value, entries.c.le_auto_renew)
    .group_by(entries.c.config, versions.c.issuer_name, _CHOSEN)
)
_SET_DUE = sa.update(entries).where(entries.c.uid == sa.bindparam("entry")).values(due_at=sa.bindparam("look_at"))
_CLAIM = (
    sa.update(sweeps)
    .where(sweeps.c.name == sa.bindparam("sweep"), sweeps.c.next_at <= sa.bindparam("now"))
    .values(next_at=sa.bindparam("then"))
)
_SHORTEN = (
    sa.update(sweeps)
    .where(sweeps.c.name == sa.bindparam("sweep"), sweeps.c.next_at > sa.bindparam("then"))
    .values(next_at=sa.bindparam("then"))
)
_PUT = Upsert(renewals)
_WIDTH = len(_SCHEDULE) + 1
_INSTANTS = frozenset({"start", "end", "chosen_at", "checked_at", "next_check_at", "seen_at"})


class SQLSchedules:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, entry: EntryUID) -> Schedule | None:
        if not is_storable(entry):
            return None
        row = self._transaction.execute(_FIND, {"entry": entry}).first()
        return _schedule(entry, tuple(row)) if row else None

    def put(self, schedule: Schedule) -> None:
        found = self._transaction.execute(_SET_DUE, {"entry": schedule.entry_uid, "look_at": schedule.look_at})
        if found.rowcount != 1:
            return  # deleted meanwhile; else its row is locked now, and can't go before ours is there
        _PUT.run(self._transaction, _values(schedule))

    def look_at(self, entry: EntryUID, instant: datetime | None) -> None:
        self._transaction.execute(_SET_DUE, {"entry": entry, "look_at": instant})

    def list_due(self, *, now: datetime, limit: int) -> Sequence[tuple[Entry, Schedule]]:
        return [_split(row) for row in self._transaction.execute(_DUE, {"now": now, "most": limit})]

    def list_planned(self, *, until: datetime, limit: int) -> Sequence[tuple[Entry, Schedule]]:
        return [_split(row) for row in self._transaction.execute(_PLANNED, {"until": until, "most": limit})]

    def list_unplanned(self, *, limit: int) -> Sequence[tuple[Entry, Schedule]]:
        return [_split(row) for row in self._transaction.execute(_UNPLANNED, {"most": limit})]

    def wake_idle(self, *, now: datetime) -> int:
        return self._transaction.execute(_WAKE, {"now": now}).rowcount

    def count_makers(self) -> Sequence[Maker]:
        rows: Iterable[tuple[Any, ...]] = (tuple(row) for row in self._transaction.execute(_MAKERS))
        return [Maker(*row) for row in rows]

    def claim_sweep(self, name: str, *, now: datetime, every: timedelta) -> bool:
        claim = {"sweep": name, "now": now, "then": now + every}
        if self._transaction.execute(_CLAIM, claim).rowcount == 1:
            return True
        # The turn was planned by a longer period than the settings have now.
        self._transaction.execute(_SHORTEN, {"sweep": name, "then": now + every})
        return False


def _split(row: sa.Row[Any]) -> tuple[Entry, Schedule]:
    columns: tuple[Any, ...] = tuple(row)
    entry = entry_from(columns[:-_WIDTH])
    return entry, _schedule(entry.uid, columns[-_WIDTH:])


def _schedule(entry: EntryUID, columns: tuple[Any, ...]) -> Schedule:
    """Return the schedule of `entries.due_at` and the columns `_SCHEDULE`; blank where there is no row yet."""
    look_at, renew_at, reason, info, paused, issuer, predecessor = columns
    return Schedule(
        entry_uid=entry,
        look_at=look_at,
        renew_at=renew_at,
        reason=reason or "",
        info=_info_from(info) if info else None,
        paused=bool(paused),
        issuer=issuer or "",
        predecessor_not_before=predecessor,
    )


def _values(schedule: Schedule) -> Mapping[str, Any]:
    return {
        "entry_uid": schedule.entry_uid,
        "renew_at": schedule.renew_at,
        "reason": schedule.reason,
        "info": _info_values(schedule.info) if schedule.info else None,
        "paused": schedule.paused,
        "issuer": schedule.issuer,
        "predecessor_not_before": schedule.predecessor_not_before,
    }


def _info_values(info: RenewalInfo) -> Mapping[str, Any]:
    values = {field.name: getattr(info, field.name) for field in fields(info)}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _info_from(stored: Mapping[str, Any]) -> RenewalInfo:
    values: dict[str, Any] = {
        name: datetime.fromisoformat(value) if value and name in _INSTANTS else value for name, value in stored.items()
    }
    return RenewalInfo(**values)

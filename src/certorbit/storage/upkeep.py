"""Counts of everything at once, for metrics: how soon current versions end, and what is done about it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from certorbit.model.entry import ConfigID
from certorbit.model.operation import OperationKind, OperationState
from certorbit.model.upkeep import DAY, OVERDUE_AFTER, EndGroup, RenewalStanding, Validity, Within
from certorbit.storage.tables import UNFINISHED, entries, operations, renewals, sweeps, versions
from certorbit.storage.transaction import Transaction

_LATER: Final = "later"
# Literals: the partial index serves only a condition that is known when the query is planned.
_IS_UNFINISHED = operations.c.state.in_([sa.literal_column(f"'{state}'") for state in UNFINISHED])


def _instant(name: str) -> sa.BindParameter[datetime]:
    return sa.bindparam(name, type_=versions.c.not_after.type)


_END: Final = sa.case(
    (versions.c.not_after.is_(None), Validity.EMPTY.value),
    (versions.c.not_after <= _instant("now"), Validity.ENDED.value),
    *((versions.c.not_after <= _instant(f"in_{within.value}"), within.value) for within in Within),
    else_=_LATER,
).label("end")
_RENEWAL: Final = sa.case(
    (operations.c.id.is_not(None), RenewalStanding.UNDER_WAY.value),
    (
        sa.and_(
            sa.not_(renewals.c.paused),
            renewals.c.renew_at > _instant("not_overdue"),
            renewals.c.renew_at < versions.c.not_after,
        ),
        RenewalStanding.PLANNED.value,
    ),
    else_=RenewalStanding.NONE.value,
).label("renewal")
_COUNT_ENDS = (
    sa.select(
        entries.c.config,
        _END,
        _RENEWAL,
        sa.func.count().label("number"),
        sa.func.min(versions.c.not_after).label("first_end"),
    )
    .select_from(
        entries.outerjoin(versions, versions.c.id == entries.c.current_version)
        .outerjoin(renewals, renewals.c.entry_uid == entries.c.uid)
        .outerjoin(
            operations,
            sa.and_(
                operations.c.entry_uid == entries.c.uid,
                operations.c.lane == sa.literal_column("'issuance'"),
                _IS_UNFINISHED,
            ),
        )
    )
    .where(entries.c.source != sa.literal_column("'built-in'"))
    # By their names: PostgreSQL takes two placeholders of one value for two.
    .group_by(entries.c.config, sa.literal_column('"end"'), sa.literal_column("renewal"))
)
_COUNT_UNFINISHED = (
    sa.select(operations.c.kind, operations.c.state, sa.func.count().label("number"))
    .where(_IS_UNFINISHED)
    .group_by(operations.c.kind, operations.c.state)
)
_SWEEPS = sa.select(sweeps)


class SQLUpkeepCounts:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def count_ends(self, *, now: datetime) -> Sequence[EndGroup]:
        instants = {"now": now, "not_overdue": now - OVERDUE_AFTER}
        instants |= {f"in_{within.value}": now + within.days * DAY for within in Within}
        return [_group(row) for row in self._transaction.execute(_COUNT_ENDS, instants)]

    def count_unfinished(self) -> Mapping[tuple[OperationKind, OperationState], int]:
        rows = self._transaction.execute(_COUNT_UNFINISHED)
        return {(OperationKind(row.kind), OperationState(row.state)): row.number for row in rows}

    def list_sweeps(self) -> Mapping[str, datetime]:
        return {row.name: row.next_at for row in self._transaction.execute(_SWEEPS)}


def _group(row: sa.Row[Any]) -> EndGroup:
    is_valid = row.end not in {Validity.EMPTY.value, Validity.ENDED.value}
    return EndGroup(
        config=ConfigID(row.config),
        validity=Validity.VALID if is_valid else Validity(row.end),
        within=Within(row.end) if is_valid and row.end != _LATER else None,
        renewal=RenewalStanding(row.renewal),
        number=row.number,
        first_end=row.first_end,
    )

"""Token buckets of the CAs' limits (model/limits.py). A bucket that is full needs no row."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.limits import Bucket, RuleName
from certorbit.storage.tables import limit_buckets
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_AT = limit_buckets.c.directory == sa.bindparam("at")
_FOR = limit_buckets.c.subject.in_(sa.bindparam("subjects", expanding=True))
# Ordered by the key, so that two transactions that want several rows lock them in the same order.
_FIND = sa.select(limit_buckets).where(_AT, _FOR).order_by(limit_buckets.c.subject, limit_buckets.c.rule)
# SQLite knows no row locks and needs none: a writing transaction is alone there.
_LOCK = _FIND.with_for_update()
_UPDATE = (
    sa.update(limit_buckets)
    .where(_AT, limit_buckets.c.subject == sa.bindparam("whose"), limit_buckets.c.rule == sa.bindparam("which"))
    .values(full_at=sa.bindparam("new_full_at"), line_ends_at=sa.bindparam("new_line_ends_at"))
)
_DROP = sa.delete(limit_buckets).where(_AT, _FOR, limit_buckets.c.rule == sa.bindparam("which"))
_DELETE_FULL = sa.delete(limit_buckets).where(
    limit_buckets.c.full_at <= sa.bindparam("now", type_=limit_buckets.c.full_at.type),
    limit_buckets.c.line_ends_at <= sa.bindparam("now", type_=limit_buckets.c.full_at.type),
)


class SQLLimitBuckets:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, directory: str, subjects: Sequence[str]) -> Sequence[Bucket]:
        return self._read(_FIND, directory, subjects)

    def lock(self, directory: str, subjects: Sequence[str]) -> Sequence[Bucket]:
        return self._read(_LOCK, directory, subjects)

    def add(self, directory: str, buckets: Sequence[Bucket]) -> None:
        """Insert them. Raises LostRace if another writer did so meanwhile; the repeated transaction finds them."""
        if not buckets:
            return
        ordered = sorted(buckets, key=lambda bucket: (bucket.subject, bucket.rule))
        self._transaction.execute(sa.insert(limit_buckets), [_values(directory, bucket) for bucket in ordered])

    def update(self, directory: str, buckets: Sequence[Bucket]) -> None:
        if not buckets:
            return
        self._transaction.execute(
            _UPDATE,
            [
                {
                    "at": directory,
                    "whose": bucket.subject,
                    "which": bucket.rule.value,
                    "new_full_at": bucket.full_at,
                    "new_line_ends_at": bucket.line_ends_at,
                }
                for bucket in buckets
            ],
        )

    def drop(self, directory: str, rule: RuleName, subjects: Sequence[str]) -> None:
        self._transaction.execute(_DROP, {"at": directory, "which": rule.value, "subjects": list(subjects)})

    def delete_full(self, *, now: datetime) -> int:
        return self._transaction.execute(_DELETE_FULL, {"now": now}).rowcount

    def _read(self, statement: sa.Select[Any], directory: str, subjects: Sequence[str]) -> Sequence[Bucket]:
        wanted = [subject for subject in subjects if is_storable(subject)]
        if not wanted or not is_storable(directory):
            return []
        rows = self._transaction.execute(statement, {"at": directory, "subjects": wanted})
        return [Bucket(RuleName(row.rule), row.subject, row.full_at, row.line_ends_at) for row in rows]


def _values(directory: str, bucket: Bucket) -> Mapping[str, Any]:
    return {
        "directory": directory,
        "subject": bucket.subject,
        "rule": bucket.rule.value,
        "full_at": bucket.full_at,
        "line_ends_at": bucket.line_ends_at,
    }

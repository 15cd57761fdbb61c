"""What a provider allows only so often: one row per use."""

from datetime import datetime

import sqlalchemy as sa

from certorbit.storage.advisory_locks import hold
from certorbit.storage.tables_deployment import quota_uses
from certorbit.storage.transaction import Transaction

_OF_QUOTA = (quota_uses.c.account == sa.bindparam("whose"), quota_uses.c.kind == sa.bindparam("which"))
_COUNT = (
    sa.select(sa.func.count())
    .select_from(quota_uses)
    .where(*_OF_QUOTA, quota_uses.c.used_at >= sa.bindparam("since", type_=quota_uses.c.used_at.type))
)
_NTH_NEWEST = (
    sa.select(quota_uses.c.used_at)
    .where(*_OF_QUOTA)
    .order_by(quota_uses.c.used_at.desc())
    .limit(1)
    .offset(sa.bindparam("skipped"))
)
_DELETE_BEFORE = sa.delete(quota_uses).where(
    quota_uses.c.used_at < sa.bindparam("before", type_=quota_uses.c.used_at.type)
)


class SQLQuotas:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def count(self, account: str, kind: str, *, since: datetime) -> int:
        found = self._transaction.execute(_COUNT, {"whose": account, "which": kind, "since": since})
        return int(found.scalar_one())

    def find_nth_newest(self, account: str, kind: str, *, nth: int) -> datetime | None:
        found = self._transaction.execute(_NTH_NEWEST, {"whose": account, "which": kind, "skipped": nth - 1})
        used_at: datetime | None = found.scalar_one_or_none()
        return used_at

    def add(self, account: str, kind: str, *, at: datetime) -> None:
        self._transaction.execute(sa.insert(quota_uses), {"account": account, "kind": kind, "used_at": at})

    def lock(self, account: str, kind: str) -> None:
        hold(self._transaction, f"quota {account} {kind}")

    def delete_before(self, instant: datetime) -> int:
        return self._transaction.execute(_DELETE_BEFORE, {"before": instant}).rowcount

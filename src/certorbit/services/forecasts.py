"""The forecast of renewals: what is planned and the state of the CAs' limits, read in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from certorbit.model.ca_limits import AccountKey, LimitPolicy
from certorbit.model.entry import Entry
from certorbit.model.failover import ALL_ALIKE, OrderByConfig
from certorbit.model.forecast import Buckets, Forecast, choose_account, forecast, subjects_of
from certorbit.model.renewal import RenewalRules
from certorbit.model.schedule import Schedule
from certorbit.ports.store import UnitOfWork

SUBJECTS_PER_QUERY = 5_000  # databases bound the number of parameters of a statement (SQLite: 32,766)


@dataclass(frozen=True, slots=True)
class Planned:
    """What a forecast is made from, as it was in one moment. is_whole: False if there is more than was asked for."""

    entries: Sequence[tuple[Entry, Schedule]]
    buckets: Buckets
    is_whole: bool


def read_planned(
    tx: UnitOfWork,
    *,
    until: datetime,
    limit: int,
    accounts: Sequence[AccountKey],
    by_config: OrderByConfig = ALL_ALIKE,
    policy: LimitPolicy,
) -> Planned:
    """Return what is planned up to then, at most `limit` certificates, the earliest first."""
    found = tx.schedules.list_planned(until=until, limit=limit + 1)
    entries = found[:limit]
    wanted: dict[str, dict[str, None]] = {}
    for entry, schedule in entries:
        account = choose_account(entry, schedule, accounts, by_config)
        if (limits := policy.of(account.directory)) is not None:
            wanted.setdefault(account.directory, {}).update(dict.fromkeys(subjects_of(entry, account, limits)))
    buckets: Buckets = {}
    for directory, subjects in wanted.items():
        names = list(subjects)
        for start in range(0, len(names), SUBJECTS_PER_QUERY):
            rows = tx.limits.find(directory, names[start : start + SUBJECTS_PER_QUERY])
            buckets |= {(directory, row.rule, row.subject): row for row in rows}
    return Planned(entries, buckets, is_whole=len(found) <= limit)


def make_forecast(
    planned: Planned,
    *,
    accounts: Sequence[AccountKey],
    by_config: OrderByConfig = ALL_ALIKE,
    policy: LimitPolicy,
    rules: RenewalRules,
    now: datetime,
    until: datetime,
) -> Forecast:
    """Return the forecast; takes up to a second of CPU for thousands of certificates, so in a thread."""
    made = forecast(
        planned.entries,
        accounts=accounts,
        by_config=by_config,
        policy=policy,
        buckets=planned.buckets,
        rules=rules,
        now=now,
        until=until,
    )
    return Forecast(made.renewals, is_complete=made.is_complete and planned.is_whole)

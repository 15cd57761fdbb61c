"""The forecast of renewals: what is to come and the state of the CAs' limits, read in one transaction.

What the sweep decided is only where to look: each certificate is decided about anew, by the settings as they are now.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from certorbit.model.ca_limits import AccountKey, LimitPolicy
from certorbit.model.entry import Entry, Version
from certorbit.model.failover import ALL_ALIKE, OrderByConfig
from certorbit.model.forecast import Buckets, Forecast, Unrenewed, choose_account, forecast, subjects_of
from certorbit.model.renewal import RenewalRules, decide, lifetime_of
from certorbit.model.schedule import Schedule
from certorbit.ports.issuer import Issuer
from certorbit.ports.store import UnitOfWork
from certorbit.services.permitting import ConfigIssuers, find_next_version, issuers_for

SUBJECTS_PER_QUERY = 5_000  # databases bound the number of parameters of a statement (SQLite: 32,766)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a forecast is made by. issuers: all, in order of preference. limit: certificates to look at, at most."""

    issuers: Sequence[Issuer]
    by_config: OrderByConfig = field(default_factory=lambda: ALL_ALIKE)
    policy: LimitPolicy
    rules: RenewalRules
    now: datetime
    until: datetime
    limit: int

    @property
    def accounts(self) -> list[AccountKey]:
        return [AccountKey(issuer.directory, issuer.name) for issuer in self.issuers]

    def of(self, config: str) -> ConfigIssuers:
        """Return the configuration's issuers."""
        return issuers_for(config, self.issuers, self.by_config)


@dataclass(frozen=True, slots=True)
class Planned:
    """What a forecast is made from, as it was in one moment. is_whole: False if there is more than was asked for."""

    entries: Sequence[tuple[Entry, Schedule]]
    unrenewed: tuple[Unrenewed, ...]
    buckets: Buckets
    is_whole: bool


def read_planned(tx: UnitOfWork, outlook: Outlook) -> Planned:
    """Return what is to come: of what the sweep planned, and of what it had no plan for, `limit` certificates each."""
    most = outlook.limit + 1
    planned = tx.schedules.list_planned(until=outlook.until, limit=most)
    unplanned = tx.schedules.list_unplanned(limit=most)
    entries: list[tuple[Entry, Schedule]] = []
    unrenewed: list[Unrenewed] = []
    for entry, schedule in (*planned[: outlook.limit], *unplanned[: outlook.limit]):
        version = entry.current
        if version is None:
            continue
        following = find_next_version(entry, schedule, outlook.of(entry.config))
        if following.is_automatic:
            anew = _decide(version, schedule, outlook)
            if anew.renew_at is not None and anew.renew_at <= outlook.until:
                entries.append((entry, anew))
        elif version.facts.not_after <= outlook.until and following.obstacle is not None:
            unrenewed.append(Unrenewed(entry, version.facts.not_after, following.obstacle, following.message))
    return Planned(
        entries,
        tuple(sorted(unrenewed, key=lambda one: (one.not_after, one.entry.config, one.entry.id))),
        _read_buckets(tx, entries, outlook),
        is_whole=max(len(planned), len(unplanned)) < most,
    )


def make_forecast(planned: Planned, outlook: Outlook) -> Forecast:
    """Return the forecast; takes up to a second of CPU for thousands of certificates, so in a thread."""
    made = forecast(
        planned.entries,
        accounts=outlook.accounts,
        by_config=outlook.by_config,
        policy=outlook.policy,
        buckets=planned.buckets,
        rules=outlook.rules,
        now=outlook.now,
        until=outlook.until,
    )
    return replace(made, is_complete=made.is_complete and planned.is_whole, unrenewed=planned.unrenewed)


def _decide(version: Version, schedule: Schedule, outlook: Outlook) -> Schedule:
    """Return the schedule as the sweep would write it now."""
    life = replace(lifetime_of(version.facts), predecessor_not_before=schedule.predecessor_not_before)
    decision = decide(life, info=schedule.info, now=outlook.now, rules=outlook.rules)
    return replace(schedule, renew_at=decision.due_at, reason=str(decision.reason))


def _read_buckets(tx: UnitOfWork, entries: Sequence[tuple[Entry, Schedule]], outlook: Outlook) -> Buckets:
    wanted: dict[str, dict[str, None]] = {}
    for entry, schedule in entries:
        account = choose_account(entry, schedule, outlook.accounts, outlook.by_config)
        if (limits := outlook.policy.of(account.directory)) is not None:
            wanted.setdefault(account.directory, {}).update(dict.fromkeys(subjects_of(entry, account, limits)))
    buckets: Buckets = {}
    for directory, subjects in wanted.items():
        names = list(subjects)
        for start in range(0, len(names), SUBJECTS_PER_QUERY):
            rows = tx.limits.find(directory, names[start : start + SUBJECTS_PER_QUERY])
            buckets |= {(directory, row.rule, row.subject): row for row in rows}
    return buckets

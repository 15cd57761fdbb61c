"""What renewals are to come, by whom, and which of them a CA's limits will hold back: a simulation, pure.

It plays the coming days in the order of time, with the rules and the buckets that the real renewals will meet. A
short-lived certificate comes up several times. What nobody can know is left out: failures, and windows that a CA has
not given yet.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certorbit.model.ca_limits import AccountKey, CALimits, Charge, LimitPolicy, OrderKind, OrderRequest
from certorbit.model.entry import Entry
from certorbit.model.failover import ALL_ALIKE, OrderByConfig
from certorbit.model.identifiers import hash_identifiers
from certorbit.model.issuer_order import order_of, origin_of, permitted
from certorbit.model.limits import Bucket, Demand, RuleName, Wait, allow
from certorbit.model.next_version import Obstacle
from certorbit.model.renewal import Lifetime, RenewalRules, decide, lifetime_of
from certorbit.model.schedule import Schedule

MOST_RENEWALS = 10_000  # ours: an answer of some 3 MB
Buckets = dict[tuple[str, RuleName, str], Bucket]  # by directory, rule and subject


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Which limit holds a renewal back, and until when. message: for people."""

    rule: RuleName
    until: datetime
    message: str


@dataclass(frozen=True, slots=True)
class PlannedRenewal:
    """One renewal to come.

    renew_at: when it is due; not in the past. reason: why then, as in `Schedule`.
    expected_at: when the limits let it through; the same if none holds it back.
    """

    entry: Entry
    account: AccountKey
    renew_at: datetime
    reason: str
    expected_at: datetime
    held_back: HeldBack | None = None


@dataclass(frozen=True, slots=True)
class Unrenewed:
    """A certificate that nothing renews by itself. message: why not, for people."""

    entry: Entry
    not_after: datetime
    obstacle: Obstacle
    message: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """renewals: in order of time. is_complete: False if there are more than could be shown.

    unrenewed: what ends in that time, or has ended, and nothing renews by itself; by its end.
    """

    renewals: tuple[PlannedRenewal, ...]
    is_complete: bool
    unrenewed: tuple[Unrenewed, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class _Turn:
    """A renewal at its time. number: of its certificate. has_waited: a limit held it back before."""

    at: datetime
    number: int
    renew_at: datetime
    reason: str
    is_first: bool = True
    held_back: HeldBack | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    entry: Entry
    schedule: Schedule
    account: AccountKey
    life: Lifetime


@dataclass(slots=True)
class _Simulation:
    candidates: Sequence[_Candidate]
    policy: LimitPolicy
    rules: RenewalRules
    buckets: Buckets

    def run(self, *, now: datetime, until: datetime) -> Forecast:
        turns = [
            _Turn(
                max(planned.schedule.renew_at, now),
                number,
                max(planned.schedule.renew_at, now),
                planned.schedule.reason,
            )
            for number, planned in enumerate(self.candidates)
            if planned.schedule.renew_at is not None
        ]
        heapq.heapify(turns)
        done: list[PlannedRenewal] = []
        while turns:
            if len(done) == MOST_RENEWALS:
                return Forecast(_in_order(done), is_complete=False)
            turn = heapq.heappop(turns)
            candidate = self.candidates[turn.number]
            if wait := self._ask_limits(candidate, turn):
                held_back = turn.held_back or HeldBack(wait.rule, wait.until, wait.message)
                heapq.heappush(turns, replace(turn, at=wait.until, held_back=held_back))
                continue
            done.append(
                PlannedRenewal(candidate.entry, candidate.account, turn.renew_at, turn.reason, turn.at, turn.held_back)
            )
            following = self._next_turn(candidate, turn)
            if following is not None and following.at <= until:
                heapq.heappush(turns, following)
        return Forecast(_in_order(done), is_complete=True)

    def _ask_limits(self, candidate: _Candidate, turn: _Turn) -> Wait | None:
        """Take the tokens that the order needs, or a place in the line."""
        directory = candidate.account.directory
        limits = self.policy.of(directory)
        if limits is None:
            return None
        order = OrderRequest(
            candidate.account, candidate.entry.identifiers, _order_kind(candidate, at=turn.at, is_first=turn.is_first)
        )
        demands = [self._demand(directory, charge) for charge in limits.charges(order)]
        verdict = allow(demands, now=turn.at, has_waited=turn.held_back is not None)
        for bucket in verdict.buckets:
            self.buckets[directory, bucket.rule, bucket.subject] = bucket
        if not isinstance(verdict, Wait):
            return None
        message = limits.explain(verdict.rule, verdict.subject, until=verdict.until, identifiers=order.identifiers)
        return replace(verdict, message=message)

    def _demand(self, directory: str, charge: Charge) -> Demand:
        known = self.buckets.get((directory, charge.rule.name, charge.subject))
        return Demand(charge.rule, known or Bucket(charge.rule.name, charge.subject), spends=charge.spends)

    def _next_turn(self, candidate: _Candidate, turn: _Turn) -> _Turn | None:
        """Return when the version that this renewal gives will be due: a certificate of the same length."""
        life = replace(candidate.life, not_before=turn.at, not_after=turn.at + candidate.life.length)
        decision = decide(life, info=None, now=turn.at, rules=self.rules)
        if decision.due_at <= turn.at:
            return None
        return _Turn(decision.due_at, turn.number, decision.due_at, str(decision.reason), is_first=False)


def forecast(  # noqa: PLR0913 - all that the future depends on, each by name
    planned: Sequence[tuple[Entry, Schedule]],
    *,
    accounts: Sequence[AccountKey],
    by_config: OrderByConfig = ALL_ALIKE,
    policy: LimitPolicy,
    buckets: Mapping[tuple[str, RuleName, str], Bucket],
    rules: RenewalRules,
    now: datetime,
    until: datetime,
) -> Forecast:
    """Return the renewals up to `until`.

    Args:
        planned: entries with a `renew_at` up to then. Those that an operator paused are left out.
        accounts: in order of preference, one at least. by_config: see `failover.order_for`.
        buckets: as they are now (`subjects_of` says which).
    """
    candidates = [
        _Candidate(
            entry, schedule, choose_account(entry, schedule, accounts, by_config), lifetime_of(entry.current.facts)
        )
        for entry, schedule in planned
        if entry.current is not None and not schedule.paused
    ]
    return _Simulation(candidates, policy, rules, dict(buckets)).run(now=now, until=until)


def subjects_of(entry: Entry, account: AccountKey, limits: CALimits) -> Sequence[str]:
    """Return the subjects of all buckets that an order for the entry may ask."""
    order = OrderRequest(account, entry.identifiers, OrderKind.NEW)
    return [charge.subject for charge in limits.charges(order)]


def choose_account(
    entry: Entry, schedule: Schedule, accounts: Sequence[AccountKey], by_config: OrderByConfig
) -> AccountKey:
    """Return the account whose turn it is: the operator's choice if it is still configured, else the first one.

    Of those that may issue for it (`issuer_order.permitted`), one at least.
    """
    by_name = {account.name: account for account in accounts}
    order = order_of(entry.config, {account.name: account.directory for account in accounts}, by_config)
    return by_name[permitted(order, origin_of(entry), chosen=schedule.issuer)[0]]


def _order_kind(candidate: _Candidate, *, at: datetime, is_first: bool) -> OrderKind:
    """Return what the order is to the CA, as `workflows.admission` will see it then.

    What follows the first renewal is of this account. A CA that gave a window now will give one for that as well.
    """
    version, info = candidate.entry.current, candidate.schedule.info
    is_own = version is not None and version.issuer_name == candidate.account.name
    if is_first and not is_own:
        return OrderKind.NEW
    if is_own and info is not None and info.start is not None and (not is_first or info.is_inside(at)):
        return OrderKind.ARI_RENEWAL
    has_same_names = version is not None and version.le_hash == hash_identifiers(candidate.entry.identifiers)
    return OrderKind.RENEWAL if not is_first or has_same_names else OrderKind.NEW


def _in_order(done: Sequence[PlannedRenewal]) -> tuple[PlannedRenewal, ...]:
    return tuple(sorted(done, key=lambda renewal: (renewal.renew_at, renewal.entry.config, renewal.entry.id)))

"""The renewal sweep: once a minute, once per cluster, it looks at the entries whose time has come.

For each it asks the CA for its renewal window if that is due (RFC 9773), decides (model/renewal.py), and either
starts an operation or writes down when to look again. A renewal is an issuance like any other from then on: the same
workflow, the same ladder, the same acceptance check; the entry keeps its id and its old version until the new one is
stored.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from certorbit.clock import Chance, Clock
from certorbit.model.entry import Entry, Source
from certorbit.model.failover import OrderByConfig
from certorbit.model.issuer_order import IssuerOrder, order_of
from certorbit.model.next_version import NextVersion, Obstacle, find_next
from certorbit.model.operation import Operation, OperationKind
from certorbit.model.renewal import (
    SHORTEST_TRY,
    TRIES_BEFORE_EXPIRY,
    Decision,
    Lifetime,
    RenewalRules,
    decide,
    is_daily,
    lifetime_of,
    next_daily_at,
    should_ask,
)
from certorbit.model.schedule import Schedule
from certorbit.ports.issuer import Issuer
from certorbit.ports.store import Store, UnitOfWork
from certorbit.workflows.traces import describe
from certorbit.workflows.waking import GoOn, wake

log = structlog.get_logger(__name__)

NAME = "renewal"
INTERVAL = timedelta(minutes=1)  # a window can be 3 hours wide (facts.md 3.3), so nothing slower
# The turn that a sweep claims; shorter than a worker's own shortest interval, or a lone worker would miss every second.
PERIOD = INTERVAL * 0.75
PAGE = 200  # entries per transaction
ASKED_AT_ONCE = 20  # renewalInfo requests; Let's Encrypt allows 1,000 per second and address (facts.md 3.4)
# A started renewal sets the entry's timer anew when it ends; this is for the case that it never does.
SAFETY_NET = timedelta(hours=6)
# An entry that nothing is to be done for: looked at daily, more often near its end, and when a worker starts.
IDLE = timedelta(days=1)
TOLD_AFTER_END = timedelta(days=30)  # what ended before then is told of no more
RETRY_BROKEN = timedelta(hours=1)  # when an entry whose planning failed is looked at again
# A version that was due again at once would be a loop that burns a CA's limits (facts.md chapter 2, number 3).
LEAST_AGE = timedelta(hours=1)


# Records an operation of this kind, by this issuer ("": the first), and its workflow, in the transaction.
Start = Callable[[UnitOfWork, Entry, OperationKind, str, datetime], Operation]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes of one entry. following: what gives it its next version; None: its planning broke.

    kind: of the operation to start; None: only the schedule is written. is_told: it ends soon, nothing renews it, and
    it is the day's look.
    """

    entry: Entry
    schedule: Schedule
    kind: OperationKind | None
    following: NextVersion | None = None
    is_told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The sweep with the parts that it works with.

    by_config: see `failover.order_for`. start, go_on: `services.renewals.start_operation`, `start_next_attempt`,
    joined by `app`.
    """

    store: Store
    issuers: Sequence[Issuer]
    by_config: OrderByConfig = field(default_factory=dict)
    clock: Clock
    chance: Chance
    rules: RenewalRules
    start: Start
    go_on: GoOn
    _done: set[str] = field(default_factory=set)

    async def sweep(self) -> int:
        """Look at everything that is due, unless another worker did so within the minute.

        Returns: how many renewals were started.
        """
        now = self.clock.now()
        if "wake" not in self._done:
            await wake(self.store, self._order_of, self.go_on, now=now)
            self._done.add("wake")
        if not await self.store.write(lambda tx: tx.schedules.claim_sweep(NAME, now=now, every=PERIOD)):
            return 0
        started = 0
        while due := await self.store.read(lambda tx: tx.schedules.list_due(now=now, limit=PAGE)):
            plans = await self._plan_all(due, now=now)
            started += await self.store.write(lambda tx, p=plans: self._apply(tx, p, now=now))  # type: ignore[misc]
            for plan in plans:
                if plan.is_told:
                    _tell(plan)
            if len(due) < PAGE:
                break
        if started:
            log.info("renewal.swept", started=started)
        return started

    def _order_of(self, config: str) -> IssuerOrder:
        return order_of(config, {issuer.name: issuer.directory for issuer in self.issuers}, self.by_config)

    async def _plan_all(self, due: Sequence[tuple[Entry, Schedule]], *, now: datetime) -> Sequence[_Plan]:
        slots = asyncio.Semaphore(ASKED_AT_ONCE)
        issuers = {issuer.name: issuer for issuer in self.issuers}

        async def plan(entry: Entry, schedule: Schedule) -> _Plan:
            following = find_next(
                entry,
                order=self._order_of(entry.config),
                covers=lambda name, identifier: issuers[name].covers(identifier),
                chosen=schedule.issuer,
                paused=schedule.paused,
            )
            if following.kind is None or entry.current is None:
                return _leave(entry, schedule, following, now=now, rules=self.rules)
            before = schedule
            life = replace(lifetime_of(entry.current.facts), predecessor_not_before=schedule.predecessor_not_before)
            if following.kind is OperationKind.RENEW:
                async with slots:
                    schedule = await _ask(issuers, entry, schedule, life, now=now)
            decision = decide(life, info=schedule.info, now=now, rules=self.rules)
            schedule = replace(schedule, renew_at=decision.due_at, reason=str(decision.reason))
            plan = _as_plan(entry, schedule, decision, following.kind, now=now)
            return (
                _as_paused(plan, before, following, life, now=now)
                if schedule.paused
                else replace(plan, following=following)
            )

        plans = await asyncio.gather(*(plan(entry, schedule) for entry, schedule in due), return_exceptions=True)
        return [
            found if isinstance(found, _Plan) else _put_off(entry, schedule, found, now=now)
            for (entry, schedule), found in zip(due, plans, strict=True)
        ]

    def _apply(self, tx: UnitOfWork, plans: Sequence[_Plan], *, now: datetime) -> int:
        """Write the plans down; start what is due. An entry that changed meanwhile is looked at again next time."""
        started = 0
        for plan in plans:
            entry = tx.entries.get_by_uid(plan.entry.uid)
            if entry is None:
                continue
            if entry.current != plan.entry.current:
                tx.schedules.look_at(entry.uid, now + INTERVAL)
                continue
            asked = tx.schedules.find(entry.uid) or plan.schedule
            # What an operator said while we asked the CA stays said.
            schedule = replace(plan.schedule, paused=asked.paused, issuer=asked.issuer)
            if schedule.look_at is not None and schedule.look_at <= now:
                schedule = replace(schedule, look_at=now + INTERVAL)  # never due again within this sweep
            may_start = plan.kind is not None and not schedule.paused
            if plan.kind is not None and may_start and tx.operations.lock_unfinished(entry.uid) is None:
                # Whom a replacement is asked of is written down at once: the settings may be others when it begins.
                first = plan.following.issuers[0] if plan.following and plan.kind is OperationKind.REPLACE else ""
                self.start(tx, entry, plan.kind, schedule.issuer or first, now)
                started += 1
            tx.schedules.put(schedule)
        return started


def _leave(entry: Entry, schedule: Schedule, following: NextVersion, *, now: datetime, rules: RenewalRules) -> _Plan:
    """Return the plan for an entry that gets no next version by itself: when to look whether it does."""
    obstacle = following.obstacle
    if obstacle is None or obstacle.is_for_good:
        return _Plan(entry, replace(schedule, look_at=None, renew_at=None, reason=""), None, following)
    left = replace(schedule, look_at=now + IDLE, renew_at=None, reason=obstacle.value)
    if entry.current is None:
        return _Plan(entry, left, None, following)
    life = lifetime_of(entry.current.facts)
    is_news = schedule.renew_at is not None or schedule.reason != obstacle.value
    is_told = _ends_soon(life, schedule, now=now, rules=rules) and (is_news or _is_days_look(life, schedule))
    look_at = next_daily_at(life.not_after, now=now)
    if now < life.not_after:
        look_at = min(look_at, now + max((life.not_after - now) / TRIES_BEFORE_EXPIRY, SHORTEST_TRY))
    return _Plan(entry, replace(left, look_at=look_at), None, following, is_told)


def _as_paused(plan: _Plan, before: Schedule, following: NextVersion, life: Lifetime, *, now: datetime) -> _Plan:
    """Return the plan of a paused entry, which is told of once a day while it is due. before: what was planned."""
    plan = replace(plan, following=following)
    if plan.kind is None or now - life.not_after > TOLD_AFTER_END:
        return plan
    is_told = _is_days_look(life, before) or before.renew_at == before.look_at
    look_at = min(now + SAFETY_NET, next_daily_at(life.not_after, now=now))
    return replace(plan, schedule=replace(plan.schedule, look_at=look_at), is_told=is_told)


def _ends_soon(life: Lifetime, schedule: Schedule, *, now: datetime, rules: RenewalRules) -> bool:
    """Return whether it would be due by now if anything renewed it, and has not been dead for long."""
    is_due = decide(life, info=schedule.info, now=now, rules=rules).due_at <= now
    return is_due and now - life.not_after <= TOLD_AFTER_END


def _is_days_look(life: Lifetime, schedule: Schedule) -> bool:
    return schedule.look_at is not None and is_daily(life.not_after, schedule.look_at)


def _tell(plan: _Plan) -> None:
    following, version = plan.following, plan.entry.current
    assert following is not None
    assert version is not None
    details = {
        "config": plan.entry.config,
        "entry": plan.entry.id,
        "not_after": version.facts.not_after.isoformat(),
        "obstacle": following.obstacle,
        "message": following.message,
    }
    if following.obstacle is Obstacle.NO_ISSUER:
        log.warning("renewal.no_issuer", **details)
    else:
        log.warning("renewal.not_automatic", **details)


def _put_off(entry: Entry, schedule: Schedule, error: BaseException, *, now: datetime) -> _Plan:
    """Return the plan for an entry that can't be planned: a bug there must not hold up all the others, each minute."""
    if not isinstance(error, Exception):
        raise error
    log.error("renewal.plan_broken", config=entry.config, entry=entry.id, **describe(error))
    return _Plan(entry, replace(schedule, look_at=now + RETRY_BROKEN), None)


async def _ask(
    issuers: Mapping[str, Issuer], entry: Entry, schedule: Schedule, life: Lifetime, *, now: datetime
) -> Schedule:
    """Return the schedule with the CA's word on the current version, asked for if that is due."""
    version = entry.current
    issuer = issuers.get(version.issuer_name) if version else None
    if version is None or issuer is None:
        return replace(schedule, info=None)
    if not should_ask(life, info=schedule.info, now=now, is_replaced=False):
        return schedule
    info = await issuer.renewal_info(version.chain_pem, previous=schedule.info)
    return replace(schedule, info=info)


def _as_plan(entry: Entry, schedule: Schedule, decision: Decision, kind: OperationKind, *, now: datetime) -> _Plan:
    if decision.due_at > now:
        return _Plan(entry, replace(schedule, look_at=decision.next_look_at), None)
    version = entry.current
    if version is not None and version.source is Source.GENERATED:
        length = version.facts.not_after - version.facts.not_before
        earliest = version.created_at + min(LEAST_AGE, length / 4)
        if now < earliest:
            return _Plan(entry, replace(schedule, look_at=earliest), None)
    return _Plan(entry, replace(schedule, look_at=now + SAFETY_NET), kind)

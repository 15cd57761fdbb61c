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
from certorbit.model.failover import OrderByConfig, order_for
from certorbit.model.next_version import find_kind
from certorbit.model.operation import Operation, OperationKind
from certorbit.model.renewal import Decision, Lifetime, RenewalRules, decide, lifetime_of, should_ask
from certorbit.model.schedule import Schedule
from certorbit.ports.issuer import Issuer
from certorbit.ports.store import Store, UnitOfWork
from certorbit.workflows.traces import describe

log = structlog.get_logger(__name__)

NAME = "renewal"
INTERVAL = timedelta(minutes=1)  # a window can be 3 hours wide (facts.md 3.3), so nothing slower
# The turn that a sweep claims; shorter than a worker's own shortest interval, or a lone worker would miss every second.
PERIOD = INTERVAL * 0.75
PAGE = 200  # entries per transaction
ASKED_AT_ONCE = 20  # renewalInfo requests; Let's Encrypt allows 1,000 per second and address (facts.md 3.4)
# A started renewal sets the entry's timer anew when it ends; this is for the case that it never does.
SAFETY_NET = timedelta(hours=6)
# An entry that nothing is to be done for today: settings and flags change.
IDLE = timedelta(days=1)
RETRY_BROKEN = timedelta(hours=1)  # when an entry whose planning failed is looked at again
# A version that was due again at once would be a loop that burns a CA's limits (facts.md chapter 2, number 3).
LEAST_AGE = timedelta(hours=1)


# Records an operation of this kind, by this issuer ("": the first), and its workflow, in the transaction.
Start = Callable[[UnitOfWork, Entry, OperationKind, str, datetime], Operation]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes of one entry. kind: of the operation to start; None: only the schedule is written."""

    entry: Entry
    schedule: Schedule
    kind: OperationKind | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The sweep with the parts that it works with.

    by_config: see `failover.order_for`. start: `services.renewals.start_operation`, joined by `app`.
    """

    store: Store
    issuers: Sequence[Issuer]
    by_config: OrderByConfig = field(default_factory=dict)
    clock: Clock
    chance: Chance
    rules: RenewalRules
    start: Start

    async def sweep(self) -> int:
        """Look at everything that is due, unless another worker did so within the minute.

        Returns: how many renewals were started.
        """
        now = self.clock.now()
        if not await self.store.write(lambda tx: tx.schedules.claim_sweep(NAME, now=now, every=PERIOD)):
            return 0
        started = 0
        while due := await self.store.read(lambda tx: tx.schedules.list_due(now=now, limit=PAGE)):
            plans = await self._plan_all(due, now=now)
            started += await self.store.write(lambda tx, p=plans: self._apply(tx, p, now=now))  # type: ignore[misc]
            if len(due) < PAGE:
                break
        if started:
            log.info("renewal.swept", started=started)
        return started

    async def _plan_all(self, due: Sequence[tuple[Entry, Schedule]], *, now: datetime) -> Sequence[_Plan]:
        slots = asyncio.Semaphore(ASKED_AT_ONCE)
        issuers = {issuer.name: issuer for issuer in self.issuers}

        async def plan(entry: Entry, schedule: Schedule) -> _Plan:
            own = [issuers[name] for name in order_for(entry.config, tuple(issuers), self.by_config)]
            kind = find_kind(
                entry,
                has_configured_ca=any(issuer.directory != "internal" for issuer in own),
                covers=own[0].covers,
            )
            if kind is None or entry.current is None:
                idle = None if entry.side.is_ca_bundle or entry.source is Source.BUILT_IN else now + IDLE
                return _Plan(entry, replace(schedule, look_at=idle, renew_at=None, reason=""), None)
            life = replace(lifetime_of(entry.current.facts), predecessor_not_before=schedule.predecessor_not_before)
            if kind is OperationKind.RENEW:
                async with slots:
                    schedule = await _ask(issuers, entry, schedule, life, now=now)
            decision = decide(life, info=schedule.info, now=now, rules=self.rules)
            schedule = replace(schedule, renew_at=decision.due_at, reason=str(decision.reason))
            return _as_plan(entry, schedule, decision, kind, now=now)

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
                self.start(tx, entry, plan.kind, schedule.issuer, now)
                started += 1
            tx.schedules.put(schedule)
        return started


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

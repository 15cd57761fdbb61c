"""The look at revocations: once a minute, once per cluster, at the current versions whose time has come.

Each gets a verdict from the lists that its certificate names (RFC 5280 §6.3.3), and a time for the next look: when one
of those lists is to be downloaded again. A revoked one is an event; if its entry renews or replaces automatically, its
replacement is started in the transaction that writes the verdict.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from urllib.parse import urlsplit

import structlog

from certorbit.clock import Clock
from certorbit.errors import BadMaterial, CRLUnusable, LostRace, Unreachable
from certorbit.model.crl import HOLD, REASONS, Verdict, VerdictState, follow
from certorbit.model.entry import Entry, Source, Version
from certorbit.model.operation import Operation
from certorbit.observe.metrics import Metrics
from certorbit.pki.crl_check import check_scope, find_revoked
from certorbit.pki.crl_points import CheckedLeaf, DistributionPoint, read_leaf
from certorbit.ports.crl_source import CRLCopy, CRLSource
from certorbit.ports.crl_store import DueVersion
from certorbit.ports.store import Store, UnitOfWork
from certorbit.workflows.traces import describe

log = structlog.get_logger(__name__)

NAME: Final = "revocation"
INTERVAL: Final = timedelta(minutes=1)
PERIOD: Final = INTERVAL * 0.75  # see workflows/renewal.py
PAGE: Final = 200  # versions per transaction
JUDGED_AT_ONCE: Final = 50  # downloads have a bound of their own
RETRY_BROKEN: Final = timedelta(hours=1)
# A CA whose list holds what it has just issued would be asked again every minute.
LEAST_AGE: Final = timedelta(hours=1)


class Replace(Protocol):
    """Starts what takes a revoked version's place: `services.revocation.replace_revoked`, joined by `app`."""

    def __call__(
        self, tx: UnitOfWork, entry: Entry, *, verdict: Verdict, is_news: bool, now: datetime
    ) -> Operation | None:
        """Start it in the transaction; None: nothing takes its place. is_news: it was not known to be revoked."""
        ...


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a look came to. look_at: the next one; None: never."""

    due: DueVersion
    verdict: Verdict
    look_at: datetime | None


@dataclass(frozen=True, slots=True)
class _News:
    """A version that turned out to be revoked, and what takes its place."""

    entry: Entry
    version: Version
    verdict: Verdict
    operation: Operation | None


class RevocationLook:
    """The look with its parts."""

    def __init__(self, *, store: Store, source: CRLSource, clock: Clock, replace: Replace, metrics: Metrics) -> None:
        self._store = store
        self._source = source
        self._clock = clock
        self._replace = replace
        self._verdicts = metrics.counter(
            "certorbit_revocation_looks_total",
            meaning="Looks at the revocation of certificates, by what they found",
            labels=("verdict",),
        )

    async def sweep(self) -> int:
        """Look at everything that is due, unless another worker did so within the minute.

        Returns: how many turned out to be revoked.
        """
        now = self._clock.now()
        if not await self._store.write(lambda tx: tx.schedules.claim_sweep(NAME, now=now, every=PERIOD)):
            return 0
        found = 0
        while due := await self._store.read(lambda tx: tx.revocations.list_due(now=now, limit=PAGE)):
            judged = await self._judge_all(due, now=now)
            news = await self._store.write(lambda tx, j=judged: self._apply(tx, j, now=now))  # type: ignore[misc]
            for one in news:
                _tell(one)
            found += len(news)
            if len(due) < PAGE:
                break
        return found

    async def _judge_all(self, due: Sequence[DueVersion], *, now: datetime) -> Sequence[_Judged]:
        slots = asyncio.Semaphore(JUDGED_AT_ONCE)

        async def judge_one(one: DueVersion) -> _Judged:
            async with slots:
                return await self._judge(one, now=now)

        judged = await asyncio.gather(*(judge_one(one) for one in due), return_exceptions=True)
        return [
            found if isinstance(found, _Judged) else _put_off(one, found, now=now)
            for one, found in zip(due, judged, strict=True)
        ]

    async def _judge(self, due: DueVersion, *, now: datetime) -> _Judged:
        version = due.entry.current if due.entry is not None else None
        if version is None or version.facts.not_after <= now:
            return _Judged(due, due.verdict, None)  # nobody serves it any more, or nobody takes it
        try:
            leaf = await asyncio.to_thread(read_leaf, version.chain_pem)
        except BadMaterial as error:
            return _Judged(due, _unknown([error.message], now=now), None)
        found, look_at = await judge(leaf, source=self._source, now=now)
        self._verdicts.add(found.state.value)
        return _Judged(due, follow(due.verdict, found, now=now), look_at)

    def _apply(self, tx: UnitOfWork, judged: Sequence[_Judged], *, now: datetime) -> Sequence[_News]:
        """Write the verdicts down; start what is to replace revoked versions. Returns: what was not known before."""
        news: list[_News] = []
        for one in judged:
            look_at, due = one.look_at, one.due
            entry = tx.entries.get_by_uid(due.entry.uid) if due.entry is not None else None
            version = entry.current if entry is not None else None
            if entry is None or version is None or version.id != due.version:
                tx.revocations.put_verdict(due.version, one.verdict, look_at=None)
                continue
            if one.verdict.is_revoked:
                operation: Operation | None = None
                is_news = not due.verdict.at(now).is_revoked
                if one.verdict.reason != HOLD and look_at is not None:
                    may_start_at = version.created_at + LEAST_AGE if version.source is Source.GENERATED else now
                    if may_start_at <= now:
                        operation = self._replace(tx, entry, verdict=one.verdict, is_news=is_news, now=now)
                    else:
                        look_at = min(look_at, may_start_at)
                if is_news:
                    news.append(_News(entry, version, one.verdict, operation))
            tx.revocations.put_verdict(due.version, one.verdict, look_at=look_at)
        return news


async def judge(leaf: CheckedLeaf, *, source: CRLSource, now: datetime) -> tuple[Verdict, datetime | None]:
    """Return what the lists say of a certificate, and when to look again; None: never, nothing can change.

    Any one URL of a distribution point is enough; points are gone through until all reasons are covered, or one of
    their lists has the certificate.

    Raises:
        Unreachable: our database.
    """
    if leaf.issuer is None:
        missing = "The issuer's certificate is not in the chain, so no list can be checked. Upload the whole chain."
        return _unknown([missing], now=now), None
    own = await source.find_own(leaf.issuer_id)
    if own is None and not any(point.urls for point in leaf.points):
        return _unknown(["The certificate names no revocation list that can be downloaded."], now=now), None
    reading = _Reading(leaf, now)
    if own is not None:
        reading.read("the built-in CA", own, DistributionPoint((), REASONS))
        return reading.verdict(), reading.look_at
    for point in leaf.points:
        if reading.is_decided:
            break
        for url in point.urls:
            copy = await source.find(url, issuer=leaf.issuer, issuer_id=leaf.issuer_id)
            if reading.read(url, copy, point):
                break
    return reading.verdict(), reading.look_at


class _Reading:
    """What was read of the lists for one certificate."""

    def __init__(self, leaf: CheckedLeaf, now: datetime) -> None:
        self._leaf = leaf
        self._now = now
        self._covered: frozenset[str] = frozenset()
        self._revoked: tuple[str, datetime] | None = None
        self._valid_until: datetime | None = None
        self._sources: list[str] = []
        self._problems: list[str] = []
        self.look_at: datetime | None = None

    @property
    def is_decided(self) -> bool:
        return self._revoked is not None or self._covered == REASONS

    def read(self, url: str, copy: CRLCopy, point: DistributionPoint) -> bool:
        """Take in what a list says. Returns: whether it was usable for the certificate."""
        self.look_at = min(copy.next_look_at, self.look_at or copy.next_look_at)
        if copy.problem:
            self._problems.append(f"{_short(url)}: {copy.problem}")
        if copy.index is None:
            return False
        try:
            # An own list has no URL that the certificate would have to name.
            reasons = check_scope(copy.index, is_ca=self._leaf.is_ca, urls=frozenset(point.urls))
            entry = find_revoked(copy.index, self._leaf.serial)
        except CRLUnusable as error:
            self._problems.append(f"{_short(url)}: {error.message}")
            return False
        self._sources.append(url)
        self._valid_until = min(copy.index.next_update, self._valid_until or copy.index.next_update)
        self._covered |= reasons & point.reasons
        if entry is not None:
            self._revoked = entry.reason, entry.revoked_at
        return True

    def verdict(self) -> Verdict:
        if not self.is_decided:
            if self._sources:
                self._problems.append("The lists that could be read don't tell of all reasons for a revocation.")
            return _unknown(self._problems, now=self._now)
        reason, revoked_at = self._revoked or ("", None)
        return Verdict(
            state=VerdictState.REVOKED if self._revoked else VerdictState.GOOD,
            reason=reason,
            revoked_at=revoked_at,
            checked_at=self._now,
            valid_until=self._valid_until,
            sources=tuple(self._sources),
            problems=tuple(self._problems),
        )


def _unknown(problems: Sequence[str], *, now: datetime) -> Verdict:
    return Verdict(state=VerdictState.UNKNOWN, checked_at=now, problems=tuple(problems))


def _put_off(due: DueVersion, error: BaseException, *, now: datetime) -> _Judged:
    """Return the look of a version that broke: a bug there must not hold up all the others, each minute."""
    if not isinstance(error, Exception) or isinstance(error, Unreachable | LostRace):  # of our database
        raise error
    log.error("revocation.look_broken", version=due.version, **describe(error))
    return _Judged(
        due, follow(due.verdict, _unknown(["The look broke; see the log."], now=now), now=now), now + RETRY_BROKEN
    )


def _tell(news: _News) -> None:
    log.warning(
        "certificate.revoked",
        found_on=news.verdict.sources[-1] if news.verdict.sources else "",
        config=news.entry.config,
        entry=news.entry.id,
        version=news.version.id,
        serial=news.version.facts.serial,
        issuer=news.version.facts.issuer,
        reason=news.verdict.reason,
        revoked_at=news.verdict.revoked_at.isoformat() if news.verdict.revoked_at else "",
        replacement=news.operation.id if news.operation else "",
    )


def _short(url: str) -> str:
    """Return where a list is, fit for a sentence."""
    try:
        return urlsplit(url).hostname or url[:80]
    except ValueError:
        return url[:80]

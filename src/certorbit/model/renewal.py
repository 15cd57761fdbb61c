"""When a certificate is renewed: all of it, pure. docs/renewal.md has the page for people, with a timeline.

`RenewalInfo` is what we remember of the CA's own suggestion (ARI, RFC 9773); `note_answer` and `note_failure` make
it; `should_ask` says when to ask again; `decide` turns it, the certificate's dates and the rules into one instant.
"""

from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from certorbit.model.backoff import Uniform
from certorbit.model.maintenance import MaintenanceWindow, next_allowed
from certorbit.model.material import CertificateFacts
from certorbit.renewal_settings import RenewalSettings

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# RFC 9773 §4.3.2: clients clamp Retry-After to reasonable bounds, "1 minute to 1 day".
SHORTEST_RETRY_AFTER = timedelta(minutes=1)
LONGEST_RETRY_AFTER = timedelta(days=1)
# RFC 9773 §4.3.3: after a long-term error, or without Retry-After, ask again in six hours.
LONG_TERM = timedelta(hours=6)
LONG_TERM_JITTER = 0.1  # ours, added: those who failed together don't come back together
# RFC 9773 §4.3.3: temporary errors back off with a capped number of tries, then count as long-term ones.
PASSING_LADDER = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 16, 32))
PASSING_JITTER = 0.2
# A certificate that replaced one younger than this waits as long before ARI may have it replaced early as well. A CA
# that means it (a revocation) has at least 24 hours (BR 4.9.1.1); one that is broken costs two orders a day, no more.
YOUNG = timedelta(hours=24)
YOUNG_SHARE = 4  # or this part of the lifetime, if that is less
# No wait of our own ladder is longer than this part of the time that is left: its daily step is made for certificates
# of months.
TRIES_BEFORE_EXPIRY = 8
DAILY = timedelta(days=1)
SHORTEST_TRY = timedelta(minutes=15)  # four an hour: Let's Encrypt allows five failures (facts.md 3.4)


class Reason(StrEnum):
    """Why a certificate is due when it is."""

    ARI = "ari"  # the random instant in the CA's window
    ARI_URGENT = "ari-urgent"  # the CA's window was over when we first saw it: the CA wants it replaced now
    FRACTION = "fraction"  # our own rule: a third (half) of the lifetime is left
    MAINTENANCE = "maintenance"  # put off into the next maintenance window
    EMERGENCY = "emergency"  # a twentieth of the lifetime is left
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class RenewalRules:
    """The operator's rules; `[renewal]` in the settings, whose checks they have passed.

    Fractions are of the certificate's whole lifetime. spread: how much earlier than the fraction's instant a
    certificate may be due, each by another part of it.
    """

    fraction: float = 1 / 3
    short_fraction: float = 1 / 2
    short_lifetime: timedelta = timedelta(days=10)
    emergency_fraction: float = 1 / 20
    spread: float = 0.02
    windows: tuple[MaintenanceWindow, ...] = ()


def rules_from(settings: RenewalSettings) -> RenewalRules:
    return RenewalRules(
        fraction=settings.fraction,
        short_fraction=settings.short_fraction,
        short_lifetime=timedelta(days=settings.short_lifetime_days),
        emergency_fraction=settings.emergency_fraction,
        spread=settings.spread,
        windows=tuple(
            MaintenanceWindow(
                days=frozenset(DAYS.index(day) for day in window.days),
                opens=time.fromisoformat(window.opens),
                closes=time.fromisoformat(window.closes),
                zone=ZoneInfo(window.time_zone),
            )
            for window in settings.windows
        ),
    )


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A certificate as far as its renewal goes.

    point: where in the spread it stands, in [0, 1): always the same for one certificate, so that its due time never
        wanders, and any for another.
    predecessor_not_before: of the version that it replaced in its entry, if there was one.
    """

    not_before: datetime
    not_after: datetime
    point: float = 0.0
    predecessor_not_before: datetime | None = None

    @property
    def length(self) -> timedelta:
        return max(self.not_after - self.not_before, timedelta(0))


def lifetime_of(facts: CertificateFacts, *, predecessor: CertificateFacts | None = None) -> Lifetime:
    """Return the lifetime of a certificate. Its point comes from its fingerprint: 52 bits, evenly spread."""
    return Lifetime(
        not_before=facts.not_before,
        not_after=facts.not_after,
        point=int(facts.fingerprint[:13], 16) / 16**13,
        predecessor_not_before=predecessor.not_before if predecessor else None,
    )


@dataclass(frozen=True, slots=True)
class RenewalInfo:
    """The stored result of asking ARI about one certificate (RFC 9773 §4.2). Instants are aware, UTC.

    start, end: the CA's last usable window; both None as long as there was none. A failure keeps what was known.
    chosen_at: our uniformly random instant in it, chosen once for each window; None with the window.
    explanation_url: for people; "" if there is none. Checked for its form only.
    next_check_at: when to ask again. problem: why the last time gave nothing, "" if it did.
    seen_at: when the CA first named this window. failures: in a row, up to now.
    """

    start: datetime | None
    end: datetime | None
    explanation_url: str
    chosen_at: datetime | None
    checked_at: datetime
    next_check_at: datetime
    problem: str
    seen_at: datetime | None = None
    failures: int = 0

    def has_same_window(self, other: "RenewalInfo | None") -> bool:
        return other is not None and (self.start, self.end) == (other.start, other.end)

    def is_inside(self, now: datetime) -> bool:
        """Return whether now is in the window: only then a CA such as Let's Encrypt lets an order with `replaces`
        off its limits (facts.md 3.3)."""
        return self.start is not None and self.end is not None and self.start <= now < self.end

    @property
    def is_urgent(self) -> bool:
        """Return whether the window was over when the CA first named it: that is how it announces a revocation."""
        return self.end is not None and self.seen_at is not None and self.end <= self.seen_at


def is_usable(start: datetime, end: datetime) -> bool:
    """Return whether these can be a window. RFC 9773 §4.2: clients MUST treat others as no answer at all."""
    return start < end


def clamp_retry_after(wished: timedelta) -> timedelta:
    """Return the CA's `Retry-After` as we obey it: the wished time itself, within one minute to one day."""
    return min(max(wished, SHORTEST_RETRY_AFTER), LONGEST_RETRY_AFTER)


def note_answer(
    previous: RenewalInfo | None,
    *,
    start: datetime,
    end: datetime,
    explanation_url: str,
    retry_after: timedelta | None,
    now: datetime,
    uniform: Uniform,
) -> RenewalInfo:
    """Return what to remember after an answer with a usable window.

    The instant of an unchanged window is kept: chosen anew at each look, the earliest of many would win and the CA's
    load would gather at the window's start. retry_after: the CA's wish, not clamped; None: it has none.
    """
    found = RenewalInfo(
        start=start,
        end=end,
        explanation_url=explanation_url,
        chosen_at=start + (end - start) * uniform(0.0, 1.0),
        checked_at=now,
        next_check_at=now + (_long_term(uniform) if retry_after is None else clamp_retry_after(retry_after)),
        problem="",
        seen_at=now,
    )
    if previous is not None and found.has_same_window(previous):
        return replace(found, chosen_at=previous.chosen_at, seen_at=previous.seen_at)
    return found


def note_failure(
    previous: RenewalInfo | None,
    *,
    problem: str,
    is_passing: bool,
    retry_after: timedelta | None,
    now: datetime,
    uniform: Uniform,
) -> RenewalInfo:
    """Return what to remember after no usable answer: what was known before, and when to ask again.

    is_passing: a temporary error (RFC 9773 §4.3.3), which is tried again sooner, a bounded number of times.
    retry_after: the CA's own word on a temporary error or a limit; it wins.
    """
    known = previous or RenewalInfo(None, None, "", None, now, now, "")
    if retry_after is not None:
        wait = clamp_retry_after(retry_after)
    elif is_passing and known.failures < len(PASSING_LADDER):
        wait = PASSING_LADDER[known.failures] * (1.0 + uniform(0.0, PASSING_JITTER))
    else:
        wait = _long_term(uniform)
    return replace(known, checked_at=now, next_check_at=now + wait, problem=problem, failures=known.failures + 1)


def _long_term(uniform: Uniform) -> timedelta:
    return LONG_TERM * (1.0 + uniform(0.0, LONG_TERM_JITTER))


def should_ask(life: Lifetime, *, info: RenewalInfo | None, now: datetime, is_replaced: bool) -> bool:
    """Return whether to ask ARI about the certificate now.

    RFC 9773 §4.3: right after issuance (there is no `info` yet), then at the time noted; clients MUST NOT ask about
    expired certificates, nor about those that they consider replaced.
    """
    if is_replaced or now >= life.not_after:
        return False
    return info is None or now >= info.next_check_at


@dataclass(frozen=True, slots=True)
class Decision:
    """When a certificate is to be renewed and why.

    due_at: never in the past. next_look_at: when to decide again: then, or earlier when ARI is to be asked.
    """

    due_at: datetime
    reason: Reason
    next_look_at: datetime


def emergency_at(life: Lifetime, *, rules: RenewalRules) -> datetime:
    """Return the instant from which on the certificate is renewed whatever else is said."""
    return life.not_after - life.length * rules.emergency_fraction


def next_daily_at(not_after: datetime, *, now: datetime) -> datetime:
    """Return the next instant that is whole days before (or after) the certificate's end.

    A certificate's daily instants are always the same ones, whoever asks: what falls on them happens once a day in
    the whole cluster, and is nowhere written down.
    """
    return now + ((not_after - now) % DAILY or DAILY)


def is_daily(not_after: datetime, instant: datetime) -> bool:
    """Return whether the instant is one of those that `next_daily_at` gives."""
    return not (not_after - instant) % DAILY


def decide(life: Lifetime, *, info: RenewalInfo | None, now: datetime, rules: RenewalRules) -> Decision:
    """Return when the certificate is due. It is due now if `due_at` is `now`.

    RFC 9773 §4.2: a chosen instant in the past means now, a later one is kept exactly. The same input gives the same
    answer, and a later `now` never an earlier one. A limit or a CA's `Retry-After` is not known here: it holds back
    the attempt, not the wish.
    """
    if now >= life.not_after:
        return Decision(now, Reason.EXPIRED, now)
    latest = emergency_at(life, rules=rules)
    if now >= latest or not life.length:
        return Decision(now, Reason.EMERGENCY, now)
    wish, reason = _wish(life, info=info, rules=rules)
    due = max(wish, now)
    if reason is not Reason.ARI_URGENT:
        allowed = next_allowed(due, rules.windows)
        if allowed > due:
            due, reason = allowed, Reason.MAINTENANCE
    if due >= latest:
        due, reason = latest, Reason.EMERGENCY
    next_look = due if info is None else max(now, min(due, info.next_check_at))
    return Decision(due, reason, next_look)


def next_try_at(planned: datetime, *, failed_at: datetime, not_after: datetime) -> datetime:
    """Return the ladder's instant for the next attempt, brought forward when the certificate ends soon.

    Only for a wait of our own. A CA's `Retry-After` is never undercut: there the next issuer is the way out.
    """
    if not_after <= failed_at:
        return planned  # nothing is left to be saved by haste
    longest = max((not_after - failed_at) / TRIES_BEFORE_EXPIRY, SHORTEST_TRY)
    return min(planned, failed_at + longest)


def _wish(life: Lifetime, *, info: RenewalInfo | None, rules: RenewalRules) -> tuple[datetime, Reason]:
    """Return when the certificate would be renewed if it weren't for emergencies and maintenance windows."""
    if info is not None and info.chosen_at is not None:
        reason = Reason.ARI_URGENT if info.is_urgent else Reason.ARI
        return max(info.chosen_at, _grown_up_at(life)), reason
    share = rules.short_fraction if life.length < rules.short_lifetime else rules.fraction
    return life.not_after - life.length * (share + rules.spread * life.point), Reason.FRACTION


def _grown_up_at(life: Lifetime) -> datetime:
    """Return the instant before which ARI has no say: only a successor of a young certificate has one."""
    age = min(YOUNG, life.length / YOUNG_SHARE)
    before = life.predecessor_not_before
    is_quick_successor = before is not None and life.not_before - before < age
    return life.not_before + age if is_quick_successor else life.not_before

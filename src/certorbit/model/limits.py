"""Token buckets: how much a CA lets us do, and when there is more (letsencrypt.org/docs/rate-limits).

A bucket is one instant: when it will be full again (the generic cell rate algorithm, the form in which Let's Encrypt
itself keeps its buckets). Taking a token moves that instant on by one refill; there are n tokens as long as it is no
further off than the refill of all the others. This is exact to the microsecond and as good as the whole dated
history, which the order ledger keeps all the same, but a decision reads one row per limit instead of up to 300, and a
bucket that is full needs no row.

Who finds no token gets a place in the line: an instant at which a token comes in and that nobody else was promised.
Without it a thousand certificates would all wake up for each single token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# A CA's `Retry-After` may empty a bucket for this long, or for the limit's own period if that is longer.
LONGEST_CLOSURE = timedelta(days=1)


class RuleName(StrEnum):
    """The limits. The values are stored with every bucket."""

    ORDERS_PER_ACCOUNT = "orders_per_account"
    CERTIFICATES_PER_DOMAIN = "certificates_per_domain"
    CERTIFICATES_PER_SET = "certificates_per_set"
    FAILED_AUTHORIZATIONS = "failed_authorizations"
    CONSECUTIVE_FAILURES = "consecutive_failures"

    @property
    def is_about_names(self) -> bool:
        """Whether the names are at fault when it is reached, so that another CA would be no help."""
        return self in {RuleName.FAILED_AUTHORIZATIONS, RuleName.CONSECUTIVE_FAILURES}


@dataclass(frozen=True, slots=True)
class Rule:
    """capacity: tokens of a full bucket, 1 or more. refill: how long one token takes to come in."""

    name: RuleName
    capacity: int
    refill: timedelta

    @property
    def period(self) -> timedelta:
        """How long an empty bucket takes to fill."""
        return self.refill * self.capacity


def make_rule(name: RuleName, *, count: int, period: timedelta) -> Rule:
    """Return the rule 'so many per period'. The refill is rounded up to a microsecond: never too quick."""
    return Rule(name, count, -(-period // count))


@dataclass(frozen=True, slots=True)
class Bucket:
    """The state of one limit for one subject.

    subject: an account, a registered domain, a set's hash, a name at an account.
    full_at: when it is full again if nothing more is taken; in the past: it is full.
    line_ends_at: the last instant that somebody who waits was promised; in the past: nobody waits.
    """

    rule: RuleName
    subject: str
    full_at: datetime = LONG_AGO
    line_ends_at: datetime = LONG_AGO

    def token_at(self, rule: Rule, *, tokens: int = 1) -> datetime:
        """Return the instant from which on it has so many tokens."""
        return self.full_at - rule.refill * (rule.capacity - tokens)

    def spend(self, rule: Rule, *, now: datetime) -> "Bucket":
        """Return it with a token less, or owing one when it is empty: some things are counted, not asked for."""
        return replace(self, full_at=max(self.full_at, now) + rule.refill)

    def give_back(self, rule: Rule, *, spent_at: datetime, now: datetime) -> "Bucket":
        """Return it with the token that was spent then, less what may have been gained since.

        Had it never been spent, the bucket might have been full for a part of that time and gained nothing. So what
        is given back is never too much, and all of it right after it was spent.
        """
        return replace(self, full_at=self.full_at - max(timedelta(0), rule.refill - (now - spent_at)))

    def empty_until(self, rule: Rule, instant: datetime, *, now: datetime) -> "Bucket":
        """Return it without a token until then: the CA said so. An unreasonable instant is brought forward."""
        latest = now + max(rule.period, LONGEST_CLOSURE)
        return replace(self, full_at=max(self.full_at, min(instant, latest) + rule.refill * (rule.capacity - 1)))


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request asks of one bucket.

    spends: False: a token must be there, but is not taken.
    """

    rule: Rule
    bucket: Bucket
    spends: bool = True

    def slot(self, *, now: datetime, has_waited: bool) -> datetime:
        """Return when a token may be taken: `now`, or the end of the line.

        has_waited: it has stood in the line. Somebody new leaves the last token to those who have.
        """
        has_line = self.bucket.line_ends_at > now
        tokens = 2 if has_line and self.spends and not has_waited else 1
        if self.bucket.token_at(self.rule, tokens=tokens) <= now:
            return now
        soonest = self.bucket.token_at(self.rule)
        return max(soonest, self.bucket.line_ends_at + self.rule.refill) if has_line and self.spends else soonest


@dataclass(frozen=True, slots=True)
class Allowed:
    """The request may be sent. buckets: as they are once it is."""

    buckets: tuple[Bucket, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """The request has to wait.

    until: the earliest instant at which all of its buckets have a token for it.
    rule, subject: what it waits for longest.
    message: for people; "" as it comes from `allow`, which knows no CA.
    buckets: those in whose line it stands now.
    """

    until: datetime
    rule: RuleName
    subject: str
    message: str = ""
    buckets: tuple[Bucket, ...] = ()


def allow(demands: Sequence[Demand], *, now: datetime, has_waited: bool = False) -> Allowed | Wait:
    """Decide on a request: a token from each bucket, or none from any.

    Args:
        now: aware UTC.
        has_waited: the request had to wait before and its time has come.
    """
    slots = [(demand.slot(now=now, has_waited=has_waited), demand) for demand in demands]
    late = [(slot, demand) for slot, demand in slots if slot > now]
    if not late:
        return Allowed(tuple(demand.bucket.spend(demand.rule, now=now) for demand in demands if demand.spends))
    until, longest = max(late, key=lambda pair: pair[0])
    return Wait(
        until=until,
        rule=longest.rule.name,
        subject=longest.bucket.subject,
        buckets=tuple(replace(demand.bucket, line_ends_at=slot) for slot, demand in late if demand.spends),
    )

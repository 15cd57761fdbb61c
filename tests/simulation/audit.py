"""What is asked of the year when it is over: who expired, who could have been saved, which limit was exceeded.

All answers come from the store's own rows, and from what the world knows of its troubles; none from the code that
decides about renewals.

*Necessary orders*: a certificate of lifetime L that is renewed when the share s of it is left (1/3; 1/2 under 10 days)
needs one order at its start and one each L * (1 - s) after it, if nothing ever fails.

*Savable*: a version expired, though a CA could be used long enough for an attempt of the ladder to fall into that time.
A CA can be used for a certificate while it is up, isn't busy, the certificate's names aren't broken, and until the
certificate meets with a mishap (an answer lost, a process killed), after which the count begins anew. What is looked at
lies between the end of the renewal window (nobody needs to be earlier) and the certificate's end. `longest_wait` says
what long enough is: the ladder's longest step at that time.

*Limit overrun*: a newOrder in the order ledger for which there was no token: the rows of some window of length t are
more than the rule's capacity + t / refill. `Meter` counts in whole microseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import sqlalchemy as sa
from engine import LONGEST_DOWNTIME
from world import SHORT, Meter, Span

from certorbit.model.ca_limits import AccountKey, LimitPolicy, OrderKind, OrderRequest
from certorbit.storage.tables import entries, order_intents, order_requests, versions

LONGEST_STEP = timedelta(days=1) * 1.2  # model/backoff.py: daily, with a fifth of jitter
SHORTEST_TRY = timedelta(minutes=15)
# next_try_at: a wait is at most an eighth of what is left when it begins, so a seventh of what is left after it.
LAST_STEPS = 7
SLACK = timedelta(minutes=2)  # a sweep's minute, a Retry-After's seconds


@dataclass(frozen=True, slots=True)
class Life:
    """One version: until when it was used (its successor's instant, or the end of the year)."""

    name: str
    issuer_name: str
    created_at: datetime
    not_after: datetime
    used_until: datetime

    @property
    def is_expired(self) -> bool:
        return self.used_until > self.not_after


def share_of(lifetime: timedelta) -> float:
    """Return the part of the lifetime that is left when it is time to renew."""
    return 1 / 2 if lifetime < SHORT else 1 / 3


def count_needed(lifetimes: Mapping[str, timedelta], *, year: Span) -> int:
    """Return the necessary orders of all certificates."""
    length = year[1] - year[0]
    return sum(1 + length // (lifetime * (1 - share_of(lifetime))) for lifetime in lifetimes.values())


def read_lives(database: sa.Engine, *, end: datetime) -> list[Life]:
    """Return all versions, certificate by certificate."""
    query = (
        sa.select(entries.c.identifiers, versions.c.issuer_name, versions.c.created_at, versions.c.not_after)
        .join_from(entries, versions, versions.c.entry_uid == entries.c.uid)
        .order_by(entries.c.uid, versions.c.created_at)
    )
    with database.connect() as connection:
        rows = [(row[0][0], *row[1:]) for row in connection.execute(query)]
    lives = []
    for row, successor in pairwise([*rows, None]):
        assert row is not None
        name, issuer_name, created_at, not_after = row
        used_until = successor[2] if successor is not None and successor[0] == name else end
        lives.append(Life(name, issuer_name, created_at, not_after, used_until))
    return lives


def longest_wait(at: datetime, *, not_after: datetime) -> timedelta:
    """Return the longest time without an attempt around an instant: the ladder's step, and somebody's restart."""
    step = min(LONGEST_STEP, max((not_after - at) / LAST_STEPS, SHORTEST_TRY))
    return step + LONGEST_DOWNTIME + SLACK


def is_savable(
    life: Life, *, lifetime: timedelta, troubles: Sequence[Sequence[Span]], mishaps: Sequence[datetime]
) -> bool:
    """Return whether a version's end could have been prevented.

    troubles: for each CA, when it can't be used for this certificate.
    """
    window_ends = life.not_after - lifetime * (share_of(lifetime) - 0.01)
    hits = [(instant, instant) for instant in mishaps]
    for spans in troubles:
        for start, end in _gaps(sorted([*spans, *hits]), within=(window_ends, life.not_after)):
            if end - start >= longest_wait(start, not_after=life.not_after):
                return True
    return False


def _gaps(spans: Sequence[Span], *, within: Span) -> list[Span]:
    """Return the time between the spans. spans: sorted; they may overlap."""
    gaps = []
    free_from, end = within
    for trouble_from, trouble_until in spans:
        if trouble_from >= end:
            break
        if trouble_from > free_from:
            gaps.append((free_from, trouble_from))
        free_from = max(free_from, trouble_until)
    if free_from < end:
        gaps.append((free_from, end))
    return gaps


def count_overruns(database: sa.Engine, policy: LimitPolicy) -> int:
    """Return how many of the ledger's requests came when one of their limits was used up."""
    query = (
        sa.select(
            order_requests.c.account,
            order_requests.c.sent_at,
            order_requests.c.kind,
            order_intents.c.issuer_name,
            order_intents.c.identifiers,
        )
        .join_from(order_requests, order_intents, order_requests.c.order_id == order_intents.c.id)
        .order_by(order_requests.c.sent_at, order_requests.c.id)
    )
    meters: dict[tuple[str, str, str], Meter] = {}
    overruns = 0
    with database.connect() as connection:
        for directory, sent_at, kind, issuer_name, identifiers in connection.execute(query):
            limits = policy.of(directory)
            assert limits is not None
            order = OrderRequest(AccountKey(directory, issuer_name), tuple(identifiers), OrderKind(kind))
            spent = [
                meters.setdefault((directory, charge.rule.name, charge.subject), Meter(charge.rule))
                for charge in limits.charges(order)
                if charge.spends
            ]
            overruns += any(meter.wait(sent_at) for meter in spent)
            for meter in spent:
                meter.take(sent_at)
    return overruns

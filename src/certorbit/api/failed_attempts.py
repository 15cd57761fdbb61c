"""Slows down those who try keys: tokens per address and per prefix, in memory, of bounded size.

API keys can't be guessed (220 bits that nobody is shown); what this saves is the database's time, and the log. So it
errs on the side of letting people in: `api/authentication.py` asks here only about secrets that it has no reason to
take for good ones, and nothing is ever held back while a connection waits.
"""

import math
from collections import OrderedDict
from datetime import datetime, timedelta

from certorbit.errors import TooManyFailures
from certorbit.model.addresses import group_of

MINUTE = timedelta(minutes=1)
_MOST_KEPT = 10_000  # callers, and prefixes, that are remembered; those that failed longest ago are forgotten first


class _Buckets:
    """One token bucket per name, as the instant at which it is full again (a generic cell rate, in one number)."""

    def __init__(self, *, per_minute: int) -> None:
        self._interval = MINUTE / per_minute
        self._full_at: OrderedDict[str, datetime] = OrderedDict()

    def wait_for(self, name: str, *, now: datetime) -> timedelta:
        """Return how long until there is a token; zero: there is one."""
        left = self._full_at.get(name, now) - now
        if left > MINUTE + self._interval:  # no bucket takes that long: the clock was set back
            return timedelta(0)
        return max(timedelta(0), left - (MINUTE - self._interval))

    def take(self, name: str, *, now: datetime) -> None:
        full_at = min(max(self._full_at.get(name, now), now), now + MINUTE)
        self._full_at[name] = full_at + self._interval
        self._full_at.move_to_end(name)
        if len(self._full_at) > _MOST_KEPT:
            self._full_at.popitem(last=False)


class FailedAttempts:
    """What failed lately. per_minute: failures that an address, and a prefix, has before it must wait."""

    def __init__(self, *, per_minute: int) -> None:
        self._addresses = _Buckets(per_minute=per_minute)
        self._prefixes = _Buckets(per_minute=per_minute)

    def check_address(self, address: str, *, now: datetime) -> None:
        """Raise TooManyFailures if too many secrets from there were unknown."""
        wait = self._addresses.wait_for(group_of(address), now=now)
        if wait:
            raise TooManyFailures(
                f"Too many unknown API keys came from {address or 'your address'}; try again in {_seconds(wait)} s.",
                subject="authorization",
                seconds=_seconds(wait),
            )

    def check_prefix(self, prefix: str, *, now: datetime) -> None:
        """Raise TooManyFailures if too many secrets that begin so were unknown."""
        wait = self._prefixes.wait_for(prefix, now=now)
        if wait:
            raise TooManyFailures(
                f"Too many unknown API keys began as this one does; try again in {_seconds(wait)} s.",
                subject="authorization",
                seconds=_seconds(wait),
            )

    def note(self, address: str, prefix: str, *, now: datetime) -> None:
        """Count a secret that nobody knows."""
        self._addresses.take(group_of(address), now=now)
        self._prefixes.take(prefix, now=now)


def _seconds(wait: timedelta) -> int:
    return max(1, math.ceil(wait.total_seconds()))

"""Backoff as data: how long to wait before the next try."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from certorbit.errors import RetryRule
from certorbit.model.operation import Problem

Uniform = Callable[[float, float], float]

# Let's Encrypt's integration guide (facts.md 1.3): 1, 10, 100 minutes, then daily.
LADDER: tuple[timedelta, ...] = (
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(minutes=100),
    timedelta(days=1),
)
LADDER_JITTER = 0.2  # of the step, added: spreads a crowd that failed together


def next_attempt_at(problem: Problem, *, attempt: int, now: datetime, uniform: Uniform) -> datetime:
    """Return when the attempt after this one may start.

    Args:
        attempt: the number of the attempt that failed, from 1.
        now: aware UTC.
        uniform: a uniform random number in [low, high].

    The issuer's own word (`retry_at`) wins over the ladder; it is never undercut.
    """
    if problem.retry is RetryRule.AT and problem.retry_at is not None:
        return max(problem.retry_at, now) + timedelta(seconds=uniform(0.0, 2.0))
    step = LADDER[min(attempt, len(LADDER)) - 1]
    return now + step * (1.0 + uniform(0.0, LADDER_JITTER))


@dataclass(frozen=True, slots=True)
class Poll:
    """Polling of something that will soon be done: starts quick, backs off, is bounded.

    first, longest: seconds between two polls. factor: growth. limit: seconds in all.
    """

    first: float = 0.05
    longest: float = 5.0
    factor: float = 1.6
    limit: float = 120.0

    def pause(self, turn: int, *, uniform: Uniform) -> float:
        """Return the seconds to wait after poll number `turn` (from 0): the step, give or take a quarter."""
        step = min(self.longest, self.first * self.factor ** min(turn, 40))
        return step * uniform(0.75, 1.25)

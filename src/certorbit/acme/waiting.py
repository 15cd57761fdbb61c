"""Waiting for the CA: paced polls, and several requests at once."""

import asyncio
from collections.abc import Coroutine, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from certorbit.clock import Chance, Clock
from certorbit.model.backoff import Poll

T = TypeVar("T")

# The CA's Retry-After is the wished time (RFC 8555 §7.5.1), within what keeps us alive.
SHORTEST_WAIT = timedelta(milliseconds=50)
LONGEST_WAIT = timedelta(seconds=60)


class Pacer:
    """The pauses between the polls of one thing; `policy.limit` bounds them in all."""

    def __init__(self, *, policy: Poll, clock: Clock, chance: Chance) -> None:
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._turn = 0
        self._end = clock.now() + timedelta(seconds=policy.limit)

    async def pause(self, wished: timedelta | None) -> bool:
        """Wait before the next poll and return True, or return False at once when the limit is over.

        Args:
            wished: what the last answer's `Retry-After` said; None: our own pace.
        """
        left = self._end - self._clock.now()
        if left <= timedelta(0):
            return False
        if wished is None:
            step = timedelta(seconds=self._policy.pause(self._turn, uniform=self._chance.between))
        else:
            step = min(max(wished, SHORTEST_WAIT), LONGEST_WAIT)
        self._turn += 1
        await self._clock.sleep(min(step, left).total_seconds())
        return True


async def gather_all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results in order; the first failure cancels the others and is raised as it is.

    How many requests run at once is the transport's business.
    """
    coroutines = list(works)
    if len(coroutines) == 1:  # the common case needs no task
        return [await coroutines[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]

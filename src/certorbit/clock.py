"""Time and chance, injected. Instants are aware and in UTC everywhere."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Return the present instant, aware, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        ...


class Chance(Protocol):
    """Where jitter comes from."""

    def between(self, low: float, high: float) -> float:
        """Return a uniform random number in [low, high]."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(tz=UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemChance:
    """The operating system's randomness, so that processes forked at one instant differ."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def between(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

"""Time and chance that tests steer."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until `advance`; sleepers wake when their instant has come.

    With `auto_advance` a sleep moves the clock itself and returns at once: for code that waits and asks again.
    `slept` lists the seconds of every sleep.
    """

    def __init__(self, start: datetime = START, *, auto_advance: bool = False) -> None:
        self._now = start
        self._auto_advance = auto_advance
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self._auto_advance:
            self._now += timedelta(seconds=seconds)
            await asyncio.sleep(0)
            return
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + timedelta(seconds=seconds), waker))
        await waker

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0) -> datetime:
        """Move the clock and wake those whose time has come, the earliest first. Returns the new instant."""
        self._now += timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        due = sorted((s for s in self._sleepers if s[0] <= self._now), key=lambda sleeper: sleeper[0])
        self._sleepers = [s for s in self._sleepers if s[0] > self._now]
        for _, waker in due:
            if not waker.done():
                waker.set_result(None)
        return self._now

    @property
    def sleepers(self) -> int:
        """How many sleeps are under way."""
        return sum(1 for _, waker in self._sleepers if not waker.done())


class FakeChance:
    """Always the same point of the range (0.0 its low end, 1.0 its high end), or given points one after the other."""

    def __init__(self, point: float = 0.5, *, then: Iterable[float] = ()) -> None:
        self._points = [point, *then]

    def between(self, low: float, high: float) -> float:
        point = self._points.pop(0) if len(self._points) > 1 else self._points[0]
        return low + (high - low) * point

"""Turns: a target's scope is changed by one at a time, over all processes. Providers replace whole lists."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from certorbit.clock import Chance, Clock
from certorbit.errors import Throttled
from certorbit.model.backoff import Poll
from certorbit.ports.store import Store

TURN_POLL: Final = Poll(first=0.1, longest=2.0)
TURN_LIMIT: Final = timedelta(minutes=10)  # longer than a unit's calls take with all their tries


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeTurns:
    """The turns of one process. is_alone: no other process changes targets (SQLite)."""

    store: Store
    clock: Clock
    chance: Chance
    is_alone: bool
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    @asynccontextmanager
    async def take(self, target: str, scope: str, *, holder: str, limit: timedelta = TURN_LIMIT) -> AsyncIterator[None]:
        """Have the turn until the block ends.

        holder: the same after a crash, so that whoever goes on doesn't wait for the dead one's turn to end.
        limit: after this time others may have it.

        Raises:
            Throttled: others had the turn for longer than a unit may take.
        """
        name = f"target:{target}/{scope}"
        async with self._locks.setdefault(name, asyncio.Lock()):
            if self.is_alone:
                yield
                return
            await self._wait(name, holder, limit)
            try:
                yield
            finally:
                await self.store.write(lambda tx: tx.named_turns.give_back(name, holder))

    async def _wait(self, name: str, holder: str, limit: timedelta) -> None:
        started = self.clock.now()
        turn = 0
        while (now := self.clock.now()) < started + TURN_LIMIT:
            if await self.store.write(
                lambda tx, now=now: tx.named_turns.take(name, holder, now=now, until=now + limit)  # type: ignore[misc]
            ):
                return
            await self.clock.sleep(TURN_POLL.pause(turn, uniform=self.chance.between))
            turn += 1
        raise Throttled(f"Another worker has been changing {name} for {TURN_LIMIT}; this one tries again later.")

"""Trying a provider's call again: bounded, with growing, jittered pauses."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Unreachable
from certorbit.model.backoff import Poll

log = structlog.get_logger(__name__)
T = TypeVar("T")

MOST_TRIES: Final = 3
_PAUSES: Final = Poll(first=0.2, longest=2.0, factor=3.0)


async def call_again(call: Callable[[], Awaitable[T]], *, provider: str, clock: Clock, chance: Chance) -> T:
    """Return what the call returns, after up to `MOST_TRIES` tries. Only Unreachable is worth another try."""
    turn = 0
    while True:
        try:
            return await call()
        except Unreachable as error:
            if turn + 1 >= MOST_TRIES:
                raise
            log.warning("keyring.call_failed", provider=provider, turn=turn, message=error.message)
        await clock.sleep(_PAUSES.pause(turn, uniform=chance.between))
        turn += 1

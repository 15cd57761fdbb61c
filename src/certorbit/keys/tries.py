"""How often a key-encryption key's provider is asked again."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside, Unreachable
from certorbit.model.backoff import Poll
from certorbit.net.tries import Passing, Tries, try_again

log = structlog.get_logger(__name__)
T = TypeVar("T")

TRIES: Final = Tries(3, Poll(first=0.2, longest=2.0, factor=3.0))


async def call_again(call: Callable[[], Awaitable[T]], *, provider: str, clock: Clock, chance: Chance) -> T:
    """Return what the call returns, as `net.tries.try_again` does. Only Unreachable is worth another try."""

    async def attempt() -> T:
        try:
            return await call()
        except Unreachable as error:
            raise Passing(error) from error.__cause__

    def note(turn: int, error: Outside) -> None:
        log.warning("keyring.call_failed", provider=provider, turn=turn, message=error.message)

    return await try_again(attempt, tries=TRIES, clock=clock, chance=chance, note=note)

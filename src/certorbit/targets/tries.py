"""How often a provider's call is tried again. What fails even then is the workflow's."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside
from certorbit.model.backoff import Poll
from certorbit.net.tries import Tries, try_again

log = structlog.get_logger(__name__)

T = TypeVar("T")

TRIES: Final = Tries(3, Poll(first=0.3, longest=5.0, factor=3.0))


async def call_again(call: Callable[[], Awaitable[T]], *, target: str, what: str, clock: Clock, chance: Chance) -> T:
    """Return what the call returns, as `net.tries.try_again` does.

    target, what: the target's name and a constant word for the call, for the log.
    """

    def note(turn: int, error: Outside) -> None:
        log.warning("target.call_failed", target=target, call=what, turn=turn, message=error.message)

    return await try_again(call, tries=TRIES, clock=clock, chance=chance, note=note)

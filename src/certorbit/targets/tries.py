"""Trying a provider's call again: bounded, with growing, jittered pauses. What fails even then is the workflow's."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside
from certorbit.model.backoff import Poll

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_TRIES: Final = 3
_PAUSES: Final = Poll(first=0.3, longest=5.0, factor=3.0)


class Passing(Exception):
    """A failure that may pass within seconds; it never leaves `call_again`."""

    def __init__(self, error: Outside) -> None:
        super().__init__(error.message)
        self.error = error


async def call_again(call: Callable[[], Awaitable[T]], *, target: str, what: str, clock: Clock, chance: Chance) -> T:
    """Return what the call returns, after up to `MOST_TRIES` tries.

    Args:
        call: harmless when repeated; raises Passing for what is worth another try.
        target, what: the target's name and a constant word for the call, for the log.

    Raises:
        Outside: what the call raised at once, or its last passing failure.
    """
    turn = 0
    while True:
        try:
            return await call()
        except Passing as passing:
            if turn + 1 >= MOST_TRIES:
                raise passing.error from passing.__cause__
            log.warning("target.call_failed", target=target, call=what, turn=turn, message=passing.error.message)
        await clock.sleep(_PAUSES.pause(turn, uniform=chance.between))
        turn += 1

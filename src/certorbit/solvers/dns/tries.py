"""Trying a provider's call again: bounded, with growing, jittered pauses."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import SolverFailed
from certorbit.model.backoff import Poll

log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_TRIES: Final = 4
_PAUSES: Final = Poll(first=0.5, longest=8.0, factor=3.0)


class Passing(Exception):
    """A failure that may pass within seconds; it never leaves `call_again`."""

    def __init__(self, error: SolverFailed) -> None:
        super().__init__(error.message)
        self.error = error


async def call_again(call: Callable[[], Awaitable[T]], *, kind: str, name: str, clock: Clock, chance: Chance) -> T:
    """Return what the call returns, after up to `MOST_TRIES` tries.

    Args:
        call: harmless when repeated; raises Passing for what is worth another try.
        kind: the solver's type, for the log.
        name: the TXT name, for the log.

    Raises:
        SolverFailed: what the call raised at once, or its last passing failure.
    """
    turn = 0
    while True:
        try:
            return await call()
        except Passing as passing:
            if turn + 1 >= MOST_TRIES:
                raise passing.error from passing.__cause__
            log.warning("dns01.call_failed", solver=kind, name=name, turn=turn, message=passing.error.message)
        await clock.sleep(_PAUSES.pause(turn, uniform=chance.between))
        turn += 1


def failure(kind: str, reason: str, *, zone: str, hint: str) -> SolverFailed:
    """Return the error of a writer: which solver, which zone, what happened, what to do."""
    return SolverFailed(f"The {kind} solver can't write into the zone {zone}: {reason}. {hint}", subject=zone)

"""How often a DNS provider's call is tried again, and what its failures say."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside, SolverFailed
from certorbit.model.backoff import Poll
from certorbit.net.tries import Tries, try_again

log = structlog.get_logger(__name__)

T = TypeVar("T")

TRIES: Final = Tries(4, Poll(first=0.5, longest=8.0, factor=3.0))


async def call_again(call: Callable[[], Awaitable[T]], *, kind: str, name: str, clock: Clock, chance: Chance) -> T:
    """Return what the call returns, as `net.tries.try_again` does.

    kind, name: the solver's type and the TXT name, for the log.
    """

    def note(turn: int, error: Outside) -> None:
        log.warning("dns01.call_failed", solver=kind, name=name, turn=turn, message=error.message)

    return await try_again(call, tries=TRIES, clock=clock, chance=chance, note=note)


def failure(kind: str, reason: str, *, zone: str, hint: str) -> SolverFailed:
    """Return the error of a writer: which solver, which zone, what happened, what to do."""
    return SolverFailed(f"The {kind} solver can't write into the zone {zone}: {reason}. {hint}", subject=zone)

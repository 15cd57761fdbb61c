"""Trying a call again: bounded, with growing, jittered pauses. Who asks decides how often, and writes the log."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside
from certorbit.model.backoff import Poll

T = TypeVar("T")


class Passing(Exception):
    """A failure that may pass within seconds; it never leaves `try_again`."""

    def __init__(self, error: Outside) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Tries:
    """most: tries in all. pauses: between two of them."""

    most: int
    pauses: Poll


async def try_again(
    call: Callable[[], Awaitable[T]],
    *,
    tries: Tries,
    clock: Clock,
    chance: Chance,
    note: Callable[[int, Outside], None],
) -> T:
    """Return what the call returns, after so many tries at most.

    Args:
        call: harmless when repeated; raises Passing for what is worth another try.
        note: told of each failure that is followed by another try, with its turn, from 0.

    Raises:
        Outside: what the call raised at once, or its last passing failure.
    """
    turn = 0
    while True:
        try:
            return await call()
        except Passing as passing:
            if turn + 1 >= tries.most:
                raise passing.error from passing.__cause__
            note(turn, passing.error)
        await clock.sleep(tries.pauses.pause(turn, uniform=chance.between))
        turn += 1

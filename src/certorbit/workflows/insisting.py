"""Work that is done again and again while our own database is away: no other outcome could be written down."""

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final, TypeVar

from certorbit.clock import Chance, Clock
from certorbit.errors import Unreachable
from certorbit.model.backoff import Poll

T = TypeVar("T")

DATABASE_POLL: Final = Poll(first=0.5, longest=15.0)


async def insist(work: Callable[[], Awaitable[T]], *, clock: Clock, chance: Chance, note: Callable[[int], None]) -> T:
    """Return what the work returns, however long the database is away; anything else that it raises goes through.

    note: told of each turn, from 0, in which the database was away.
    """
    for turn in count():
        try:
            return await work()
        except Unreachable as error:
            if error.phase != "database":
                raise
        note(turn)
        await clock.sleep(DATABASE_POLL.pause(turn, uniform=chance.between))
    raise AssertionError  # count() has no end

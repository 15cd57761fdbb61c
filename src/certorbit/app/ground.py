"""What every part stands on: the clock, chance, new ids."""

from uuid import uuid4

from certorbit.clock import SystemChance, SystemClock

CLOCK = SystemClock()
CHANCE = SystemChance()


def new_id() -> str:
    """Return a new unique id: 122 random bits in hex."""
    return uuid4().hex

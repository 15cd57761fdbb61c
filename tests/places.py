"""At which of its places a test lets a process die: all of them with CERTORBIT_EVERY_PLACE=1, else one in a few."""

import os


def choose_places(places: int, *, one_in: int, offset: int = 0) -> range:
    """Return numbers from 1 to `places`. offset: another one chooses others, so that neighbours cover for each other."""
    step = 1 if os.environ.get("CERTORBIT_EVERY_PLACE") == "1" else one_in
    return range(1 + offset % step, places + 1, step)

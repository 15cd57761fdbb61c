"""Joins what rotates keys and moves secrets beside running processes: for the commands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from certorbit.app.database import open_store
from certorbit.app.ground import CHANCE, CLOCK
from certorbit.keys.check import open_keyring
from certorbit.keys.rewrapping import Rewrapping
from certorbit.settings import Settings


@asynccontextmanager
async def open_rewrapping(settings: Settings) -> AsyncIterator[Rewrapping]:
    """Give the work with its parts.

    Raises:
        CertorbitError: see `keys.check.open_keyring`.
    """
    async with open_store(settings) as store:
        keeper = await open_keyring(settings, store=store, clock=CLOCK, chance=CHANCE)
        try:
            yield Rewrapping(keeper, store, CLOCK)
        finally:
            keeper.close()

"""Joins the keyring with the database, in every process of the service."""

from contextlib import AsyncExitStack
from datetime import timedelta

from certorbit.app.ground import CHANCE, CLOCK
from certorbit.keys import rewrapping
from certorbit.keys.check import open_keyring
from certorbit.keys.keeper import KeyringKeeper
from certorbit.keys.rewrapping import Rewrapping
from certorbit.ports.store import Store
from certorbit.settings import Settings
from certorbit.workflows.periodic import Periodic


async def make_keyring(settings: Settings, *, store: Store, stack: AsyncExitStack) -> KeyringKeeper:
    """Return the database's keyring, kept in step with other processes until the stack ends.

    Raises:
        CertorbitError: see `keys.check.open_keyring`.
    """
    keeper = await open_keyring(settings, store=store, clock=CLOCK, chance=CHANCE)
    stack.callback(keeper.close)
    every = timedelta(seconds=settings.keyring.refresh_seconds)
    refreshing = Periodic("keyring_refresh", keeper.refresh, every=every, clock=CLOCK, chance=CHANCE)
    refreshing.start()
    stack.push_async_callback(refreshing.stop)
    return keeper


def make_rewrapping(keeper: KeyringKeeper, *, store: Store) -> Periodic:
    """Return what moves secrets to the newest key, to be started by workers."""
    work = Rewrapping(keeper, store, CLOCK)
    return Periodic("keyring", work.sweep, every=rewrapping.INTERVAL, clock=CLOCK, chance=CHANCE)

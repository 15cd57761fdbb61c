"""What the API key commands do: they work on the settings' database itself, beside a running service or without one.

Whoever may read the settings and the database is an administrator already, so no key is asked for.
"""

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import uvloop

from certorbit.app import CLOCK, new_id, open_store
from certorbit.app.local_audit import acting_as_command
from certorbit.model.access import APIKey, APIKeyID, KeyTerms
from certorbit.observe.logs import set_up_logs
from certorbit.ports.store import UnitOfWork
from certorbit.services import api_keys, audit
from certorbit.settings import Settings

T = TypeVar("T")


def create_api_key(settings: Settings, terms: KeyTerms) -> tuple[APIKey, str]:
    """Store a new API key's hash and return its record and the key."""
    secret = api_keys.new_secret()
    with acting_as_command("api-keys create"):
        key = _write(settings, lambda tx: api_keys.create_key(tx, terms, now=CLOCK.now(), new_id=new_id, secret=secret))
    return key, secret


def list_api_keys(settings: Settings) -> Sequence[APIKey]:
    """Return the records of all API keys."""
    return _write(settings, api_keys.list_keys)


def change_api_key(settings: Settings, key: str, change: Callable[[KeyTerms], KeyTerms]) -> APIKey:
    """Give a key other terms and return its record."""
    with acting_as_command("api-keys change"):
        return _write(settings, lambda tx: api_keys.change_key(tx, APIKeyID(key), change, now=CLOCK.now()))


def rotate_api_key(settings: Settings, key: str, *, overlap: timedelta) -> str:
    """Give a key a new secret and return it; the one before works until the overlap is over."""
    secret = api_keys.new_secret()
    with acting_as_command("api-keys rotate"):
        _write(
            settings,
            lambda tx: api_keys.rotate_key(tx, APIKeyID(key), overlap=overlap, now=CLOCK.now(), secret=secret),
        )
    return secret


def revoke_api_key(settings: Settings, key: str) -> None:
    """Make a key useless."""
    with acting_as_command("api-keys revoke"):
        _write(settings, lambda tx: api_keys.revoke_key(tx, APIKeyID(key), now=CLOCK.now()))


def _write(settings: Settings, work: Callable[[UnitOfWork], T]) -> T:
    async def run() -> T:
        async with open_store(settings) as store:
            done = await store.write(work)
            await audit.seal_waiting(store)
            return done

    return _run(settings, run())


def _run(settings: Settings, work: Coroutine[Any, Any, T]) -> T:
    set_up_logs(level=settings.log_level, style=settings.log_format)
    return uvloop.run(work)

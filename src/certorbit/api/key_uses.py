"""Writes down when and from where API keys were used last: in the background, once a minute for each key at most."""

import asyncio
from datetime import datetime, timedelta

import structlog

from certorbit.errors import CertorbitError
from certorbit.model.access import APIKeyID, KeyUse
from certorbit.ports.store import Store

log = structlog.get_logger(__name__)

_EVERY = timedelta(minutes=1)
_MOST_KEPT = 10_000  # keys whose last note is remembered; forgetting it costs one write


class KeyUses:
    """Notes uses. No request waits for the database here; one write at a time takes all that came meanwhile."""

    def __init__(self, *, store: Store) -> None:
        self._store = store
        self._noted: dict[APIKeyID, datetime] = {}
        self._waiting: dict[APIKeyID, KeyUse] = {}
        self._writer: asyncio.Task[None] | None = None

    def note(self, key: APIKeyID, address: str, *, now: datetime) -> None:
        """Note a use, unless one was noted within the last minute."""
        noted = self._noted.get(key)
        if noted is not None and timedelta(0) <= now - noted < _EVERY:
            return
        if len(self._noted) >= _MOST_KEPT:
            self._noted.clear()
        self._noted[key] = now
        self._waiting[key] = KeyUse(key, now, address)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="key uses")

    async def _write(self) -> None:
        while self._waiting:
            uses, self._waiting = tuple(self._waiting.values()), {}
            try:
                await self._store.write(lambda tx, uses=uses: tx.api_keys.note_uses(uses))  # type: ignore[misc]
            except CertorbitError as error:  # the next use is a minute away; nothing else depends on it
                log.warning("api_keys.uses_not_written", keys=len(uses), problem=error.message)

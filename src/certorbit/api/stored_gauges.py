"""Gauges of what the database holds, read when somebody asks for the metrics."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog

from certorbit.clock import Clock
from certorbit.errors import CertorbitError
from certorbit.observe.metrics import Gauge
from certorbit.ports.store import Store, UnitOfWork

log = structlog.get_logger(__name__)
T = TypeVar("T")


class StoredGauges(Generic[T]):
    """Gauges that are read together. While the database doesn't answer they are left out, never old.

    Args:
        gauges: what is left out then.
        read: in one read transaction, as of the instant given.
        show: puts what was read into the gauges.
        kept: how long a reading is good for: several watchers cost one.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        gauges: Sequence[Gauge],
        read: Callable[[UnitOfWork, datetime], T],
        show: Callable[[T, datetime], None],
        kept: timedelta,
    ) -> None:
        self._store = store
        self._clock = clock
        self._gauges = gauges
        self._read = read
        self._show = show
        self._kept = kept
        self._read_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def refresh(self) -> bool:
        """Read the numbers, unless that was just done. Returns: whether they are there."""
        async with self._reading:
            now = self._clock.now()
            if self._read_at is not None and timedelta(0) <= now - self._read_at < self._kept:
                return True
            try:
                found = await self._store.read(lambda tx: self._read(tx, now))
            except CertorbitError as error:
                log.warning("metrics.not_read", message=error.message)
                self._read_at = None
                for gauge in self._gauges:
                    gauge.replace({})
                return False
            self._show(found, now)
            self._read_at = now
            return True

"""What has to be tidied up now and then: challenge answers nobody took away, workflows that ended long ago."""

import asyncio
from datetime import timedelta

import structlog

from certorbit.clock import Clock
from certorbit.errors import CertorbitError
from certorbit.ports.store import Store
from certorbit.workflows.engine import RETENTION, Engine

log = structlog.get_logger(__name__)

INTERVAL = timedelta(hours=1)


class Housekeeping:
    """Runs in every worker. Several at once do no harm: each deletion is one transaction."""

    def __init__(self, *, store: Store, engine: Engine, clock: Clock) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Tidy up now and every hour until `stop`."""
        self._task = asyncio.create_task(self._run(), name="housekeeping")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def tidy(self) -> None:
        """Delete expired challenge answers and the rows of workflows that ended longer ago than the retention."""
        challenges = await self._store.write(lambda tx: tx.challenges.delete_expired(now=self._clock.now()))
        workflows = await self._engine.clean_up(RETENTION)
        log.info("housekeeping.done", challenges=challenges, workflows=workflows)

    async def _run(self) -> None:
        while True:
            try:
                await self.tidy()
            except CertorbitError as error:
                log.warning("housekeeping.failed", message=error.message)
            await self._clock.sleep(INTERVAL.total_seconds())

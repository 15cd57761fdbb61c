"""Work that comes round again: the renewal sweep, the housekeeping. Runs in every worker."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import CertorbitError
from certorbit.workflows.traces import describe

log = structlog.get_logger(__name__)

JITTER = 0.1  # of the interval, taken off: workers that started together don't stay together


class Periodic:
    """One piece of work, at once and then at every interval until `stop`.

    work: repeatable and harmless when several workers do it at once; an error of ours ends this turn only.
    """

    def __init__(
        self, name: str, work: Callable[[], Awaitable[object]], *, every: timedelta, clock: Clock, chance: Chance
    ) -> None:
        self._name = name
        self._work = work
        self._every = every.total_seconds()
        self._clock = clock
        self._chance = chance
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._work()
            except CertorbitError as error:
                log.warning("periodic.failed", work=self._name, error=type(error).__name__, message=error.message)
            except Exception as error:  # noqa: BLE001 - a bug at one turn must not end renewals for good, unseen
                log.error("periodic.broken", work=self._name, **describe(error))  # noqa: TRY400 - may hold a key
            await self._clock.sleep(self._every * (1.0 - self._chance.between(0.0, JITTER)))

"""Checkpoints, many in one transaction.

With fifty workflows in flight a commit for each step is what limits a worker; here all steps that finish while one
commit runs go into the next one. `save` returns when the step survives kill -9, as if it had a commit of its own.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import count
from typing import Final, Generic, TypeVar

import sqlalchemy as sa
import structlog

from certorbit.clock import Chance, Clock
from certorbit.model.backoff import Poll
from certorbit.workflows import executors
from certorbit.workflows.executors import Recorded, Tables
from certorbit.workflows.recorder import Recorder
from certorbit.workflows.transact import Checkpoint, Verdict

In = TypeVar("In")
Out = TypeVar("Out")

LARGEST_BATCH: Final = 200  # keeps a transaction in the tens of milliseconds
DATABASE_POLL: Final = Poll(first=0.2, longest=10.0)
log = structlog.get_logger(__name__)


class Batches(Generic[In, Out]):
    """Runs a blocking function over all that was submitted while it ran the last time.

    run: returns an answer for each item. While the database is away everything waits for it: nothing could be
    written down anyway. An error that isn't the database's absence is raised to those whose items cause it.
    """

    def __init__(
        self,
        run: Callable[[Sequence[In]], Sequence[Out]],
        *,
        threads: Executor,
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._run = run
        self._threads = threads
        self._clock = clock
        self._chance = chance
        self._waiting: list[tuple[In, asyncio.Future[Out]]] = []
        self._pump: asyncio.Task[None] | None = None

    async def submit(self, item: In) -> Out:
        """Return the answer for the item. It is run to its end even if the caller is cancelled meanwhile."""
        future: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._pump is None or self._pump.done():
            # An empty context: the pump outlives the workflow that happens to start it.
            self._pump = contextvars.Context().run(asyncio.create_task, self._drain())
        return await future

    async def close(self, *, seconds: float) -> None:
        """Wait for what was submitted, at most so long (the database may be away); what is left is dropped."""
        if self._pump is not None and not self._pump.done():
            await asyncio.wait({self._pump}, timeout=seconds)
            self._pump.cancel()
            await asyncio.wait({self._pump})
        for _, future in self._waiting:
            future.cancel()

    async def _drain(self) -> None:
        while self._waiting:
            batch = self._waiting[:LARGEST_BATCH]
            del self._waiting[:LARGEST_BATCH]
            try:
                await self._settle(batch)
            finally:
                for _, future in batch:
                    future.cancel()  # only when this task is cancelled is one still open

    async def _settle(self, batch: list[tuple[In, asyncio.Future[Out]]]) -> None:
        answers = await self._insist([item for item, _ in batch])
        if isinstance(answers, BaseException) and len(batch) > 1:
            for entry in batch:  # one of them spoils it for the others
                await self._settle([entry])
            return
        for place, (_, future) in enumerate(batch):
            if future.done():
                continue  # its workflow was cancelled meanwhile
            if isinstance(answers, BaseException):
                future.set_exception(answers)
            else:
                future.set_result(answers[place])

    async def _insist(self, items: list[In]) -> Sequence[Out] | BaseException:
        for turn in count():
            call = asyncio.get_running_loop().run_in_executor(self._threads, self._run, items)
            await asyncio.wait({call})
            error = call.exception()
            if error is None:
                return call.result()
            if not executors.is_away(error):
                return error
            log.warning("workflow.database_away", error=type(error).__name__, turn=turn, waiting=len(items))
            await self._clock.sleep(DATABASE_POLL.pause(turn, uniform=self._chance.between))
        raise AssertionError  # count() has no end


class Checkpoints:
    """What workflows recorded and record."""

    def __init__(self, engine: sa.Engine, tables: Tables, *, threads: Executor, clock: Clock, chance: Chance) -> None:
        recorder = Recorder(engine)

        def load(workflows: Sequence[str]) -> list[dict[int, Recorded]]:
            with engine.connect() as connection:
                found = executors.load_checkpoints(connection, tables, workflows)
            return [found[workflow] for workflow in workflows]

        self._loads: Batches[str, dict[int, Recorded]] = Batches(load, threads=threads, clock=clock, chance=chance)
        self._saves: Batches[Checkpoint, Verdict] = Batches(
            recorder.record, threads=threads, clock=clock, chance=chance
        )

    async def load(self, workflow: str) -> dict[int, Recorded]:
        """Return the workflow's finished steps by their place (from 1)."""
        return await self._loads.submit(workflow)

    async def save(self, checkpoint: Checkpoint) -> Verdict:
        """Write the finished step; when this returns RECORDED, it survives kill -9.

        It is written even if the workflow is cancelled meanwhile: what is done must not be done again.
        """
        return await self._saves.submit(checkpoint)

    async def close(self, *, seconds: float) -> None:
        """Wait for writes under way, at most so long."""
        await self._loads.close(seconds=seconds)
        await self._saves.close(seconds=seconds)

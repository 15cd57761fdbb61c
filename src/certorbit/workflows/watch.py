"""Waits for operations: one shared query for all that wait, and no thread or database session held meanwhile."""

import asyncio
import contextvars
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from certorbit.clock import Clock
from certorbit.errors import CertorbitError, NotFound
from certorbit.model.operation import Operation, OperationID, OperationState
from certorbit.ports.store import Store, UnitOfWork

FIRST_POLL_SECONDS: Final = 0.1
LONGEST_POLL_SECONDS: Final = 0.25
POLL_GROWTH: Final = 1.2
LEAST_PAUSE_SECONDS: Final = 0.04  # however many notices arrive: at most 25 queries per second
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    operation: OperationID
    ends_at: datetime
    answer: "asyncio.Future[Operation]"


class Watch:
    """`ports.engine.OperationWatch` over the store. One event loop; `notify` is called in it, too."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiters: set[_Waiter] = set()
        self._wake = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    async def wait(self, operation: OperationID, *, seconds: float) -> Operation:
        """Return the operation when it is final, when it waits for longer than we would, or when the time is over.

        Raises:
            NotFound: there is no such operation.
            Unreachable: the database did not answer at the end of the wait.
        """
        if seconds > 0:
            answer = await self._watch(operation, seconds=seconds)
            if answer is not None:
                return answer
        found = await self._store.read(lambda tx: tx.operations.find(operation))
        if found is None:
            raise _unknown(operation)
        return found

    def notify(self, _operation: OperationID) -> None:
        """Look at once: this process changed the operation's state."""
        self._wake.set()

    async def close(self) -> None:
        """Stop looking; those who still wait get what there is when their time is over."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait({self._poller})

    async def _watch(self, operation: OperationID, *, seconds: float) -> Operation | None:
        ends_at = self._clock.now() + timedelta(seconds=seconds)
        waiter = _Waiter(operation, ends_at, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        self._wake.set()
        if self._poller is None or self._poller.done():
            # An empty context: the poller outlives the request that happens to start it.
            self._poller = contextvars.Context().run(asyncio.create_task, self._poll())
        alarm = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            racers: set[asyncio.Future[Any]] = {waiter.answer, alarm}
            await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
            return waiter.answer.result() if waiter.answer.done() else None
        finally:
            alarm.cancel()
            waiter.answer.cancel()
            self._waiters.discard(waiter)

    async def _poll(self) -> None:
        pause = FIRST_POLL_SECONDS
        while self._waiters:
            self._wake.clear()
            try:
                await self._look()
            except CertorbitError as error:
                log.warning("watch.look_failed", error=type(error).__name__)
            await self._clock.sleep(LEAST_PAUSE_SECONDS)
            if await self._is_woken(within=pause):
                pause = FIRST_POLL_SECONDS
            else:
                pause = min(pause * POLL_GROWTH, LONGEST_POLL_SECONDS)

    async def _look(self) -> None:
        """Answer those whose wait is of no more use: one query, and one more for each operation that stands still."""
        waiters = list(self._waiters)
        wanted = sorted({waiter.operation for waiter in waiters})

        def read(tx: UnitOfWork) -> dict[OperationID, Operation | None]:
            states = tx.operations.list_states(wanted)
            return {
                one: tx.operations.find(one)
                for one in wanted
                if one not in states or states[one].is_final or states[one] is OperationState.WAITING
            }

        standing = await self._store.read(read)
        for waiter in waiters:
            if waiter.operation not in standing or waiter.answer.done():
                continue
            found = standing[waiter.operation]
            if found is None:
                waiter.answer.set_exception(_unknown(waiter.operation))
            elif found.state.is_final or not _starts_before(found, waiter.ends_at):
                waiter.answer.set_result(found)

    async def _is_woken(self, *, within: float) -> bool:
        notice = asyncio.ensure_future(self._wake.wait())
        alarm = asyncio.ensure_future(self._clock.sleep(within))
        try:
            racers: set[asyncio.Future[Any]] = {notice, alarm}
            await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
            return self._wake.is_set()
        finally:
            notice.cancel()
            alarm.cancel()


def _starts_before(operation: Operation, instant: datetime) -> bool:
    """Return whether a waiting operation tries again before the instant."""
    return operation.next_attempt_at is None or operation.next_attempt_at < instant


def _unknown(operation: OperationID) -> NotFound:
    return NotFound(f"There is no operation {operation}.", subject="operation")

"""Issuance: one attempt after the other until there is a certificate (docs/issuance-cycle.md).

The steps of an attempt are in attempt.py, what they write down in records.py. Every step is a checkpoint: a finished
one never runs again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside, Unreachable
from certorbit.model.backoff import Poll
from certorbit.model.material import KeyType
from certorbit.model.operation import Operation, OperationID, problem_from
from certorbit.ports.issuer import Issuer
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store
from certorbit.workflows import records
from certorbit.workflows.attempt import DONE, FAILED, Attempt, Outcome
from certorbit.workflows.engine import Flow

log = structlog.get_logger(__name__)

DATABASE_POLL = Poll(first=0.5, longest=15.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """The issuance workflow with the parts that it works with.

    issuers: in order of preference; the first one issues.
    wake: called when an operation came to an end or to a pause, so that waiting requests look at once.
    slots: how many orders may be worked on at once in this process. The engine takes more workflows than that from
        its queue, so that others go on while one waits for its checkpoint, or for the queue's next poll.
    """

    store: Store
    keyring: Keyring
    issuers: Sequence[Issuer]
    clock: Clock
    chance: Chance
    key_type: KeyType
    new_id: Callable[[], str]
    wake: Callable[[OperationID], None]
    slots: asyncio.Semaphore

    async def run(self, flow: Flow, operation_id: OperationID, attempt: int) -> None:
        """Run one attempt to its end: a stored certificate, or a recorded failure with what follows from it."""
        with structlog.contextvars.bound_contextvars(operation=operation_id, attempt=attempt):
            await self._take_steps(flow, operation_id, attempt)
            self.wake(operation_id)

    async def _take_steps(self, flow: Flow, operation_id: OperationID, attempt: int) -> None:
        steps = Attempt(
            operation_id=operation_id,
            number=attempt,
            issuer=self.issuers[0],
            store=self.store,
            keyring=self.keyring,
            clock=self.clock,
            key_type=self.key_type,
            new_id=self.new_id,
        )
        for name, work in steps.in_order():
            outcome = await flow.step(name, partial(self._run_step, name, work))
            if outcome["outcome"] == FAILED:
                conclude = partial(self.conclude, operation_id, attempt, outcome["problem"])
                await flow.step("conclude", partial(self._run_step, "conclude", conclude))
            if outcome["outcome"] != DONE:
                return

    async def _run_step(self, name: str, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do the work; what the outside world refuses becomes a value: nothing raises across a checkpoint.

        While our own database is away the step waits for it: it could not write down any other outcome.
        """
        for turn in count():
            try:
                async with self.slots:
                    return await work()
            except Unreachable as error:
                if error.phase != "database":
                    return _failed(name, error)
                log.warning("issuance.database_away", step=name, turn=turn)
                await self.clock.sleep(DATABASE_POLL.pause(turn, uniform=self.chance.between))
            except Outside as error:
                return _failed(name, error)
        raise AssertionError  # count() has no end

    async def conclude(self, operation_id: OperationID, attempt: int, problem: object) -> Outcome:
        """Record the failed attempt: the end of an unpromised request, else the next attempt."""
        failure = records.problem_from_json(problem)
        operation = await self.store.write(
            lambda tx: records.record_failure(
                tx, operation_id, attempt, failure, now=self.clock.now(), uniform=self.chance.between
            )
        )
        _log_failure(operation, failure.message)
        return {"outcome": DONE}

    async def record_broken(self, operation_id: OperationID, attempt: int, error_id: str) -> None:
        """Conclude an attempt that ended in a bug of ours; the log has the traceback under this id."""
        await self.conclude(operation_id, attempt, records.broken_problem(error_id))
        self.wake(operation_id)


def _failed(name: str, error: Outside) -> Outcome:
    log.warning("issuance.step_failed", step=name, error=type(error).__name__, message=error.message)
    return {"outcome": FAILED, "problem": records.problem_to_json(problem_from(error))}


def _log_failure(operation: Operation | None, message: str) -> None:
    if operation is None:
        return
    log.warning(
        "issuance.attempt_failed",
        state=operation.state,
        message=message,
        next_attempt_at=operation.next_attempt_at.isoformat() if operation.next_attempt_at else None,
    )

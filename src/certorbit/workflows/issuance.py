"""Issuance: one attempt after the other until there is a certificate (docs/issuance-cycle.md).

The steps of an attempt are in attempt.py, what they write down in records.py. Every step is a checkpoint: a finished
one never runs again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside
from certorbit.model.ca_limits import NO_LIMITS, LimitPolicy
from certorbit.model.failover import OrderByConfig
from certorbit.model.issuer_order import IssuerOrder, order_of
from certorbit.model.material import KeyType
from certorbit.model.operation import Operation, OperationID, problem_from, problem_from_json, problem_to_json
from certorbit.ports.issuer import Issuer
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store
from certorbit.workflows import records
from certorbit.workflows.absent_issuer import AbsentIssuer
from certorbit.workflows.attempt import BEFORE_FINALISE, DONE, FAILED, Attempt, Outcome
from certorbit.workflows.engine import Flow
from certorbit.workflows.insisting import insist
from certorbit.workflows.permitting import Turn, find_turn

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """The issuance workflow with the parts that it works with.

    issuers: in order of preference; the first one issues. by_config: where it is another one (`failover.order_for`).
    wake: called when an operation came to an end or to a pause, so that waiting requests look at once.
    reuse_key: a renewal keeps the predecessor's key instead of making a new one.
    slots: how many orders may be worked on at once in this process. The engine takes more workflows than that from
        its queue, so that others go on while one waits for its checkpoint, or for the queue's next poll.
    """

    store: Store
    keyring: Keyring
    issuers: Sequence[Issuer]
    by_config: OrderByConfig = field(default_factory=dict)
    clock: Clock
    chance: Chance
    key_type: KeyType
    reuse_key: bool
    limits: LimitPolicy = NO_LIMITS
    new_id: Callable[[], str]
    wake: Callable[[OperationID], None]
    slots: asyncio.Semaphore

    async def run(self, flow: Flow, operation_id: OperationID, attempt: int) -> None:
        """Run one attempt to its end: a stored certificate, or a recorded failure with what follows from it."""
        with structlog.contextvars.bound_contextvars(operation=operation_id, attempt=attempt):
            await self._take_steps(flow, operation_id, attempt)
            self.wake(operation_id)

    async def _take_steps(self, flow: Flow, operation_id: OperationID, attempt: int) -> None:
        look = partial(self.store.read, lambda tx: find_turn(tx, operation_id, self._order_for))
        turn: Turn | None = await self._insist("begin", look)
        if turn is None:
            return
        operation, issuer = turn.operation, self._find_issuer(turn)
        steps = Attempt(
            operation_id=operation_id,
            number=attempt,
            kind=operation.kind,
            identifiers=operation.identifiers,
            issuer=issuer,
            store=self.store,
            keyring=self.keyring,
            clock=self.clock,
            key_type=self.key_type,
            reuse_key=self.reuse_key,
            limits=self.limits.of(issuer.directory),
            new_id=self.new_id,
        )
        for name, work in steps.in_order():
            outcome = await flow.step(name, partial(self._run_step, name, work))
            if outcome["outcome"] == FAILED:
                conclude = partial(
                    self.conclude, operation_id, attempt, outcome["problem"], is_barren=name in BEFORE_FINALISE
                )
                await flow.step("conclude", partial(self._run_step, "conclude", conclude))
            if outcome["outcome"] != DONE:
                return

    def _order_for(self, config: str) -> IssuerOrder:
        return order_of(config, self._directories(), self.by_config)

    def _directories(self) -> dict[str, str]:
        return {issuer.name: issuer.directory for issuer in self.issuers}

    def _find_issuer(self, turn: Turn) -> Issuer:
        """Return the issuer whose turn it is, or what stands for one that isn't there."""
        if turn.issuer:
            return next(issuer for issuer in self.issuers if issuer.name == turn.issuer)
        operation = turn.operation
        if not operation.state.is_final:
            log.warning("renewal.no_issuer", config=operation.config, entry=operation.entry_id, message=turn.reason)
        return AbsentIssuer(operation.issuer_name, turn.reason)

    async def _run_step(self, name: str, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do the work; what the outside world refuses becomes a value: nothing raises across a checkpoint."""
        try:
            return await self._insist(name, work)
        except Outside as error:
            return _failed(name, error)

    async def _insist(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work in a slot, again and again while our own database is away."""

        async def attempt() -> T:
            async with self.slots:
                return await work()

        def note(turn: int) -> None:
            log.warning("issuance.database_away", step=name, turn=turn)

        return await insist(attempt, clock=self.clock, chance=self.chance, note=note)

    async def conclude(
        self, operation_id: OperationID, attempt: int, problem: object, *, is_barren: bool = False
    ) -> Outcome:
        """Record the failed attempt: the end of an unpromised request, else the next attempt.

        is_barren: the CA was not asked for the certificate yet.
        """
        failure = problem_from_json(cast("Mapping[str, Any]", problem))
        operation = await self.store.write(
            lambda tx: records.record_failure(
                tx,
                operation_id,
                attempt,
                failure,
                is_barren=is_barren,
                issuers={issuer.name: self.limits.of(issuer.directory) for issuer in self.issuers},
                directories=self._directories(),
                by_config=self.by_config,
                now=self.clock.now(),
                uniform=self.chance.between,
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
    return {"outcome": FAILED, "problem": problem_to_json(problem_from(error))}


def _log_failure(operation: Operation | None, message: str) -> None:
    if operation is None:
        return
    log.warning(
        "issuance.attempt_failed",
        state=operation.state,
        message=message,
        next_attempt_at=operation.next_attempt_at.isoformat() if operation.next_attempt_at else None,
    )

"""Deployment: an entry's current version is put on its listeners, proven, or taken back (docs/deploy-cycle.md).

plan → first → rest → retire → finish, each a checkpoint. Listeners that share a copy change together (a unit); the
first unit goes alone, the rest follow side by side when it is proven. What became of each listener is a row, so that a
step that runs again after a crash goes on where it was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, cast

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside, TargetGone, Unreachable
from certorbit.model.balancer import HeldCopy, Listener, ListenerKey
from certorbit.model.deployment import Attachment, Stage, Wanted
from certorbit.model.entry import Entry, Version, VersionID
from certorbit.model.operation import Operation, OperationID, OperationState, problem_from
from certorbit.ports.store import Store, UnitOfWork
from certorbit.ports.target import PlacedTarget, Target
from certorbit.workflows import deployment_records as records
from certorbit.workflows import rollout_records
from certorbit.workflows.client_checks import lift_unneeded
from certorbit.workflows.engine import Flow
from certorbit.workflows.insisting import insist
from certorbit.workflows.rollout import Roller, Verdict, log_result
from certorbit.workflows.turns import ScopeTurns
from certorbit.workflows.unit import Result, Unit

log = structlog.get_logger(__name__)

Outcome = dict[str, object]
REMOVAL_LIMIT: Final = timedelta(minutes=2)  # of a turn: longer than a removal takes
MOST_FIRST: Final = 3  # units that are tried as the first one while their targets can't be changed at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The deployment workflow with the parts that it works with.

    targets: by name. parallel: units that are changed at once. wake: see Issuance.
    """

    store: Store
    targets: Mapping[str, PlacedTarget]
    roller: Roller
    clock: Clock
    chance: Chance
    parallel: int
    new_id: Callable[[], str]
    wake: Callable[[OperationID], None]

    async def run(self, flow: Flow, operation_id: OperationID, attempt: int) -> None:
        """Run one attempt to its end: everything proven, or a recorded failure with what follows from it."""
        with structlog.contextvars.bound_contextvars(operation=operation_id, attempt=attempt):
            await self._take_steps(flow, operation_id, attempt)
            self.wake(operation_id)

    async def record_broken(self, operation_id: OperationID, attempt: int, error_id: str) -> None:
        """Conclude an attempt that ended in a bug of ours; the log has the traceback under this id."""
        now, uniform = self.clock.now(), self.chance.between
        await self.store.write(
            lambda tx: records.record_broken(tx, operation_id, attempt, error_id, now=now, uniform=uniform)
        )
        self.wake(operation_id)

    async def _take_steps(self, flow: Flow, operation_id: OperationID, attempt: int) -> None:
        step = partial(self._step, flow)
        plan = await step("plan", partial(self._plan, operation_id, attempt))
        if plan["outcome"] != "done":
            return
        version = cast("str | None", plan["version"])
        units = cast("list[list[str]]", plan["units"])
        if version is not None:
            work = partial(self._first, operation_id, attempt, VersionID(version), units)
            first = await step("first", work)
            left = units[cast("int", first["taken"]) :]
            if first["go_on"] and left:
                await step("rest", partial(self._rest, operation_id, attempt, VersionID(version), left))
        detach = cast("list[str]", plan["detach"])
        await step("retire", partial(self._retire, operation_id, attempt, detach))
        await step("finish", partial(self._finish, operation_id, attempt))

    async def _step(self, flow: Flow, name: str, work: Callable[[], Awaitable[Outcome]]) -> dict[str, Any]:
        return await flow.step(name, partial(self._insist, name, work))

    async def _insist(self, name: str, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do the work, again and again while our own database is away."""

        def note(turn: int) -> None:
            log.warning("deployment.database_away", step=name, turn=turn)

        return await insist(work, clock=self.clock, chance=self.chance, note=note)

    async def _plan(self, operation_id: OperationID, attempt: int) -> Outcome:
        now = self.clock.now()
        plan = await self.store.write(lambda tx: records.plan(tx, operation_id, attempt, now=now))
        if plan is None:
            return {"outcome": "cancelled"}
        return {
            "outcome": "done",
            "entry": plan.entry.id,
            "config": plan.entry.config,
            "version": plan.version.id if plan.version else None,
            "units": self._group(plan.attach),
            "detach": [attachment.id for attachment in plan.detach],
        }

    def _group(self, attachments: Sequence[Attachment]) -> list[list[str]]:
        """Return the attachments' ids by scope, in the order of the settings' targets: the first one goes first."""
        order = {name: place for place, name in enumerate(self.targets)}
        units: dict[tuple[int, str, str], list[str]] = {}
        for at in attachments:
            placed = self.targets.get(at.listener.target)
            scope = placed.target.scope_of(at.listener) if placed else ""
            place = order.get(at.listener.target, len(order))
            units.setdefault((place, at.listener.target, scope), []).append(at.id)
        return [units[key] for key in sorted(units)]

    async def _first(
        self, operation_id: OperationID, attempt: int, version: VersionID, units: Sequence[Sequence[str]]
    ) -> Outcome:
        """Change one unit alone. One whose target can't be changed at all says nothing about the version: the next."""
        taken = 0
        verdict = Verdict.FAILED
        while verdict is Verdict.FAILED and taken < min(MOST_FIRST, len(units)):
            verdict = await self._change(operation_id, attempt, version, units[taken])
            taken += 1
        return {"outcome": "done", "taken": taken, "verdict": verdict, "go_on": verdict is Verdict.PROVEN}

    async def _rest(
        self, operation_id: OperationID, attempt: int, version: VersionID, units: Sequence[Sequence[str]]
    ) -> Outcome:
        """Change the other units side by side. When one doesn't serve the version, no further one begins."""
        slots = asyncio.Semaphore(self.parallel)
        verdicts: list[Verdict] = []

        async def change(unit: Sequence[str]) -> None:
            async with slots:
                if Verdict.NOT_SERVED not in verdicts:
                    verdicts.append(await self._change(operation_id, attempt, version, unit))

        async with asyncio.TaskGroup() as group:
            for unit in units:
                group.create_task(change(unit))
        return {"outcome": "done", "changed": len(verdicts), "proven": verdicts.count(Verdict.PROVEN)}

    async def _change(self, operation_id: OperationID, attempt: int, version: VersionID, ids: Sequence[str]) -> Verdict:
        work = await self.store.read(lambda tx: records.find_work(tx, operation_id, attempt, version, ids))
        if work is None:
            return Verdict.NOT_SERVED  # the attempt is over: nothing more begins
        entry, found, attachments = work
        wanted = tuple(at for at in attachments if at.wanted is Wanted.ATTACHED)
        if not wanted or found is None:
            return Verdict.PROVEN
        placed = self.targets.get(wanted[0].listener.target)
        if placed is None:
            return await self._record_unknown(operation_id, found, wanted)
        scope = placed.target.scope_of(wanted[0].listener)
        unit = Unit(placed=placed, scope=scope, attachments=wanted)
        with structlog.contextvars.bound_contextvars(config=entry.config, certificate=entry.id):
            return await self.roller.change(operation_id, entry, found, unit)

    async def _record_unknown(
        self, operation_id: OperationID, version: Version, attachments: Sequence[Attachment]
    ) -> Verdict:
        name = attachments[0].listener.target
        error = TargetGone(f"There is no target {name!r} in the settings ([[targets]]) any more.", subject=name)
        results: dict[str, Result] = {at.id: Result(stage=Stage.FAILED, error=error) for at in attachments}
        now = self.clock.now()
        await self.store.write(lambda tx: rollout_records.record_results(tx, operation_id, version, results, now=now))
        for at in attachments:
            log_result(at, version, results[at.id])
        return Verdict.FAILED

    async def _retire(self, operation_id: OperationID, attempt: int, detach: Sequence[str]) -> Outcome:
        """Take the entry off the listeners that shall not have it, then remove copies that nobody needs any more."""
        work = await self.store.read(lambda tx: records.find_work(tx, operation_id, attempt, None, detach))
        if work is None:
            return {"outcome": "cancelled"}
        entry, _, attachments = work
        for attachment in attachments:
            if attachment.wanted is Wanted.DETACHED:
                await self._detach(operation_id, entry, attachment)
        doomed = await self.store.write(lambda tx: records.doom_copies(tx, entry.uid, now=self.clock.now()))
        removed = await remove_doomed(self.roller.turns, self.targets, doomed, holder=operation_id)
        return {"outcome": "done", "removed": removed}

    async def _detach(self, operation_id: OperationID, entry: Entry, attachment: Attachment) -> None:
        problem = None
        placed = self.targets.get(attachment.listener.target)
        try:
            if placed is not None:
                copies = await self.store.read(lambda tx: tx.copies.list_of_entry(entry.uid))
                handles = {copy.handle for copy in copies if copy.target == attachment.listener.target}
                scope = placed.target.scope_of(attachment.listener)
                async with self.roller.turns.take(attachment.listener.target, scope, holder=operation_id):
                    seen = await _take_off(placed.target, attachment.listener, handles)
                    await lift_unneeded(self.store, placed, attachment)
                await self.store.write(lambda tx: tx.listeners.put(seen, now=self.clock.now()))
        except TargetGone:
            log.info("deployment.listener_gone", listener=str(attachment.listener))
        except Outside as error:
            log.warning("deployment.not_detached", listener=str(attachment.listener), message=error.message)
            problem = problem_from(error)
        now = self.clock.now()
        await self.store.write(lambda tx: records.record_detached(tx, operation_id, attachment, problem, now=now))

    async def _finish(self, operation_id: OperationID, attempt: int) -> Outcome:
        now, uniform = self.clock.now(), self.chance.between
        operation: Operation | None = await self.store.write(
            lambda tx: records.finish(tx, operation_id, attempt, now=now, new_id=self.new_id, uniform=uniform)
        )
        if operation is not None:
            tell = log.warning if operation.state in {OperationState.WAITING, OperationState.FAILED} else log.info
            tell(
                "deployment.finished",
                state=operation.state,
                certificate=operation.entry_id,
                message=operation.problem.message if operation.problem else "",
            )
            uid = operation.entry_uid
            copies = await self.store.read(lambda tx: tx.copies.list_of_entry(uid))
            doomed = [copy for copy in copies if copy.is_doomed]
            await remove_doomed(self.roller.turns, self.targets, doomed, holder=operation_id)
        return {"outcome": "done", "state": operation.state if operation else "over"}


async def remove_doomed(
    turns: ScopeTurns, targets: Mapping[str, PlacedTarget], doomed: Sequence[HeldCopy], *, holder: str
) -> int:
    """Remove copies that no listener of ours holds; those that can't be removed now are tried again by the look.

    A copy that is put to use again meanwhile stays: its roll-out and its removal wait for each other.
    """
    removed = 0
    for copy in doomed:
        placed = targets.get(copy.target)
        try:
            async with turns.take(copy.target, copy.scope, holder=holder, limit=REMOVAL_LIMIT):
                removed += await _remove(turns.store, placed, copy)
        except Outside as error:
            if isinstance(error, Unreachable) and error.phase == "database":
                raise
            log.warning("deployment.copy_not_removed", target=copy.target, handle=copy.handle, message=error.message)
    return removed


async def _remove(store: Store, placed: PlacedTarget | None, copy: HeldCopy) -> int:
    """Remove a copy if it is still doomed. Returns: how many were removed."""
    fresh = await store.read(lambda tx: tx.copies.find_by_handle(copy.target, copy.handle))
    if fresh is None or not fresh.is_doomed:
        return 0
    if placed is not None:
        await placed.target.remove(copy.handle)
    await store.write(partial(_forget, copy=copy))
    return 1


async def _take_off(target: Target, key: ListenerKey, handles: Collection[str]) -> Listener:
    """Let the listener go of the copies; return it as it is then."""
    for handle in (await target.look(key)).handles:
        if handle in handles:
            await target.detach(key, handle)
    return await target.look(key)


def _forget(tx: UnitOfWork, *, copy: HeldCopy) -> None:
    tx.copies.delete(copy.target, copy.scope, copy.handle)

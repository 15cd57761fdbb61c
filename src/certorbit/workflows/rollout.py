"""Changes one unit: install, attach, prove; and back again if it isn't served."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import CertorbitError, NotServed, Outside, Throttled
from certorbit.model.backoff import Poll
from certorbit.model.balancer import Copy, HeldCopy, Listener
from certorbit.model.deployment import Attachment, Proof, Rollout, Stage
from certorbit.model.entry import Entry, Version
from certorbit.model.operation import OperationID, problem_from
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store
from certorbit.workflows import rollout_records as records
from certorbit.workflows.client_checks import Policies, check_only_ours, find_policies, verify, verify_others
from certorbit.workflows.proof import Prover, expect
from certorbit.workflows.turns import ScopeTurns
from certorbit.workflows.unit import (
    Result,
    Unit,
    is_worth_another_try,
    make_bundle,
    not_served,
    restore,
    snapshot_of,
    switch,
)

log = structlog.get_logger(__name__)
T = TypeVar("T")

TRY_POLL: Final = Poll(first=1.0, longest=15.0, factor=4.0)
SETTLED: Final = frozenset({Stage.PROVEN, Stage.ROLLED_BACK, Stage.FAILED, Stage.UNSETTLED})


class Verdict(StrEnum):
    """What a unit says about the rest of the roll-out. NOT_SERVED stops it: the version itself may be at fault."""

    PROVEN = "proven"
    FAILED = "failed"
    NOT_SERVED = "not_served"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roller:
    """Changes units, with the parts that it works with.

    tries: of one call to a target that doesn't answer.
    """

    store: Store
    keyring: Keyring
    prover: Prover
    clock: Clock
    chance: Chance
    tries: int
    turns: ScopeTurns

    async def change(self, operation: OperationID, entry: Entry, version: Version, unit: Unit) -> Verdict:
        """Bring the unit to the version, or back, and write down what became of each listener.

        A repeat after a crash goes on: a listener that came to an end in this attempt is not touched again.
        """
        mine = [attachment.id for attachment in unit.attachments]
        rollouts = await self.store.read(lambda tx: tx.rollouts.list_some(operation, mine))
        if all(row.stage in SETTLED for row in rollouts):
            return _verdict([(row.stage, row.problem.type if row.problem else "") for row in rollouts])
        try:
            results = await self._roll(operation, entry, version, unit, rollouts)
        except Throttled as error:  # others had the turn for too long
            rows = await self.store.read(lambda tx: tx.rollouts.list_some(operation, mine))
            results = {row.attachment: Result(stage=_untouched(row), error=error) for row in rows}
        await self.store.write(lambda tx: records.record_results(tx, operation, version, results, now=self.clock.now()))
        for attachment in unit.attachments:
            log_result(attachment, version, results[attachment.id])
        return _verdict([(r.stage, type(r.error).__name__) for r in results.values()])

    async def _roll(
        self, operation: OperationID, entry: Entry, version: Version, unit: Unit, rollouts: Sequence[Rollout]
    ) -> Mapping[str, Result]:
        async with self._turn(operation, unit):
            try:
                policies = await self.store.read(lambda tx: find_policies(tx, entry, unit))
                looks = await self._again(partial(self._look, unit))
                await check_only_ours(self.store, unit, policies, looks)
            except Outside as error:
                return {row.attachment: Result(stage=_untouched(row), error=error) for row in rollouts}
            present = await self.store.write(
                lambda tx: records.begin_unit(
                    tx,
                    operation,
                    entry,
                    unit,
                    {k: snapshot_of(v) for k, v in looks.items()},
                    policies=policies,
                    now=self.clock.now(),
                )
            )
            copy = Copy(handle=present.handle, link=present.link) if present else None
            try:
                copy = await self._again(partial(self._install, entry, version, unit, copy))
                seen = await self._switch_all(entry, unit, copy, policies)
            except Outside as error:
                return await self._back(operation, entry, unit, copy, policies, error=error)
        proofs = await asyncio.gather(
            *(
                self.prover.prove(
                    seen[attachment.id],
                    expect(version, is_default=attachment.is_default, policy=policies[attachment.id]),
                    grace_seconds=unit.placed.grace_seconds,
                )
                for attachment in unit.attachments
            )
        )
        bad = [(at, proof) for at, proof in zip(unit.attachments, proofs, strict=True) if not proof.is_served]
        if not bad:
            return {
                attachment.id: Result(stage=Stage.PROVEN, handle=copy.handle, proof=proof, listener=seen[attachment.id])
                for attachment, proof in zip(unit.attachments, proofs, strict=True)
            }
        async with self._turn(operation, unit):
            results = await self._back(operation, entry, unit, copy, policies, error=not_served(*bad[0]))
        shown: dict[str, Proof] = {at.id: proof for at, proof in zip(unit.attachments, proofs, strict=True)}
        return {key: replace(result, proof=shown[key]) for key, result in results.items()}

    def _turn(self, operation: OperationID, unit: Unit) -> AbstractAsyncContextManager[None]:
        """Change the unit's scope alone. Not held while a proof waits."""
        return self.turns.take(unit.placed.target.name, unit.scope, holder=operation)

    async def _look(self, unit: Unit) -> dict[str, Listener]:
        return {at.id: await unit.placed.target.look(at.listener) for at in unit.attachments}

    async def _install(self, entry: Entry, version: Version, unit: Unit, present: Copy | None) -> Copy:
        bundle = make_bundle(entry, version, keyring=self.keyring)
        copy = await unit.placed.target.install(bundle, scope=unit.scope, present=present)
        first = unit.attachments[0]
        await self.store.write(
            lambda tx: tx.copies.put(
                HeldCopy(
                    target=unit.placed.target.name,
                    scope=unit.scope,
                    handle=copy.handle,
                    link=copy.link,
                    provider=unit.placed.target.provider,
                    region=first.listener.region,
                    config=entry.config,
                    entry_id=entry.id,
                    entry_uid=entry.uid,
                    version=version.id,
                    updated_at=self.clock.now(),
                )
            )
        )
        return copy

    async def _switch_all(self, entry: Entry, unit: Unit, copy: Copy, policies: Policies) -> dict[str, Listener]:
        own = await self.store.read(lambda tx: records.own_handles(tx, entry.uid, unit))
        seen: dict[str, Listener] = {}
        for attachment in unit.attachments:
            others = await self.store.read(partial(records.other_handles, attachment=attachment))
            await self._again(partial(verify, unit.placed, attachment, copy.handle, policies[attachment.id]))
            seen[attachment.id] = await self._again(
                partial(
                    switch,
                    unit.placed,
                    attachment,
                    copy,
                    own=own,
                    displaced=others.displaced,
                    kept=others.kept,
                )
            )
        return seen

    async def _back(
        self,
        operation: OperationID,
        entry: Entry,
        unit: Unit,
        copy: Copy | None,
        policies: Policies,
        *,
        error: CertorbitError,
    ) -> dict[str, Result]:
        """Let the unit's listeners serve what they served before; each result has the error that led here.

        Who may get in doesn't go back with the version: what is wanted now stays in force.

        copy: the one that failed, as far as it is known.
        """
        log.warning("deployment.rolling_back", entry=entry.id, message=error.message)
        # Going back may take minutes, and a process may die in it: whoever looks meanwhile reads why.
        now = self.clock.now()
        await self.store.write(lambda tx: records.note_problem(tx, operation, unit, problem_from(error), now=now))
        try:
            return await self._go_back(operation, entry, unit, copy, policies, error=error)
        except Outside as second:
            log.error("deployment.roll_back_failed", entry=entry.id, message=second.message)  # noqa: TRY400 - no traceback: the message says it
            return {at.id: Result(stage=Stage.UNSETTLED, error=error) for at in unit.attachments}

    async def _go_back(
        self,
        operation: OperationID,
        entry: Entry,
        unit: Unit,
        failed: Copy | None,
        policies: Policies,
        *,
        error: CertorbitError,
    ) -> dict[str, Result]:
        plan = await self.store.read(lambda tx: records.plan_return(tx, operation, entry, unit))
        new = failed.handle if failed else ""
        renamed: dict[str, str] = {}
        if plan.old is not None:
            copy = await self._again(partial(self._install, entry, plan.old, unit, failed))
            # A provider that could not keep the old copy gives it another handle.
            renamed = dict.fromkeys(plan.own - {copy.handle, new}, copy.handle)
        results: dict[str, Result] = {}
        for attachment in unit.attachments:
            before = plan.before.get(attachment.id)
            if before is None:
                results[attachment.id] = Result(stage=Stage.FAILED, error=error)
                continue
            at_first = {before.default, *before.certificates}
            held = {renamed.get(handle, handle) for handle in at_first} - {new}
            # A policy that the target refused can't be asked for again; what the copy had is in force.
            if isinstance(error, NotServed) or renamed:
                for handle in sorted(held & (plan.own | set(renamed.values()))):
                    await self._again(partial(verify, unit.placed, attachment, handle, policies[attachment.id]))
            listener = await self._again(partial(restore, unit.placed, attachment, before, new=new, renamed=renamed))
            if not at_first & (plan.own | {new}):  # it came on with this change, and is off again
                await self._again(partial(verify_others, self.store, unit.placed, attachment))
            results[attachment.id] = await self._show_old(attachment, plan.old, listener, unit, error)
        return results

    async def _show_old(
        self, attachment: Attachment, old: Version | None, listener: Listener, unit: Unit, error: CertorbitError
    ) -> Result:
        """Return the result of a roll-back; the old version is proven as well, if there was one."""
        if old is not None and attachment.version is not None:
            proof = await self.prover.prove(
                listener,
                expect(old, is_default=attachment.is_default),
                grace_seconds=unit.placed.grace_seconds,
            )
            if not proof.is_served:
                return Result(stage=Stage.UNSETTLED, error=error, listener=listener)
        # Only what was served wrongly was rolled back; what could not be changed is as it was.
        stage = Stage.ROLLED_BACK if isinstance(error, NotServed) else Stage.FAILED
        return Result(stage=stage, error=error, listener=listener)

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what the call returns, after a bounded number of tries while nobody answers."""
        for turn in range(self.tries - 1):
            try:
                return await call()
            except Outside as error:
                if not is_worth_another_try(error):
                    raise
                log.warning("deployment.call_failed", turn=turn, message=error.message)
            await self.clock.sleep(TRY_POLL.pause(turn, uniform=self.chance.between))
        return await call()


def log_result(attachment: Attachment, version: Version, result: Result) -> None:
    """Log what became of a listener, as loud as it deserves: neither forward nor back is worse than as it was."""
    match result.stage:
        case Stage.UNSETTLED:
            tell = log.error
        case Stage.FAILED | Stage.ROLLED_BACK:
            tell = log.warning
        case _:
            tell = log.info
    tell(
        "deployment.listener",
        listener=str(attachment.listener),
        stage=result.stage,
        version=version.id,
        error=type(result.error).__name__ if result.error else "",
        message=result.error.message if result.error else "",
    )


def _untouched(row: Rollout) -> Stage:
    """Return the stage of a listener that could not be looked at: one that was being changed before stays unsettled."""
    return Stage.UNSETTLED if row.stage in {Stage.CHANGING, Stage.UNSETTLED} else Stage.FAILED


def _verdict(causes: Sequence[tuple[Stage, str]]) -> Verdict:
    if all(stage is Stage.PROVEN for stage, _ in causes):
        return Verdict.PROVEN
    return Verdict.NOT_SERVED if any(cause == NotServed.__name__ for _, cause in causes) else Verdict.FAILED

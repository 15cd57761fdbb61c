"""The look: what every target's listeners hold and serve, compared with what is wanted (docs/deployment.md).

Once per interval and cluster. What differs is reported, and repaired if the settings say so: a deployment is started,
with its own proof and its own way back.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from certorbit.clock import Chance, Clock
from certorbit.deploying.locking import lock_attachments
from certorbit.deploying.starting import PRIORITY_ROLLOUT, ensure_deployment
from certorbit.errors import BACKOFF, Outside, Unreachable
from certorbit.model.balancer import Listener, ListenerKey
from certorbit.model.deployment import Attachment, Proof, Stage, Wanted
from certorbit.model.entry import EntryUID, Version
from certorbit.model.operation import Problem, problem_from
from certorbit.ports.store import Store, UnitOfWork
from certorbit.ports.target import PlacedTarget
from certorbit.workflows.deployment import remove_doomed
from certorbit.workflows.proof import Prover, expect
from certorbit.workflows.turns import ScopeTurns

log = structlog.get_logger(__name__)

NAME: Final = "deployment"
GRACE_SECONDS: Final = 5.0  # a single lost packet is no drift
PROOFS_AT_ONCE: Final = 20
DOOMED_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the look found of one attachment. problem: None: it is as it should be."""

    attachment: Attachment
    proof: Proof | None
    problem: Problem | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The look with its parts. every: between two looks. repairs: whether drift starts a deployment."""

    store: Store
    targets: Mapping[str, PlacedTarget]
    prover: Prover
    turns: ScopeTurns
    clock: Clock
    chance: Chance
    every: timedelta
    repairs: bool
    new_id: Callable[[], str]
    _asked: set[str] = field(default_factory=set)

    async def sweep(self) -> int:
        """Look at everything, unless another worker did so within the interval. Returns: how many had drifted."""
        now = self.clock.now()
        if not await self.store.write(lambda tx: tx.schedules.claim_sweep(NAME, now=now, every=self.every * 0.75)):
            return 0
        await self.store.write(lambda tx: tx.listeners.forget_targets(list(self.targets)))
        found = await asyncio.gather(*(self._look_at(name) for name in self.targets))
        doomed = await self.store.read(lambda tx: tx.copies.list_doomed(limit=DOOMED_AT_ONCE))
        await remove_doomed(self.turns, self.targets, doomed, holder=NAME)
        return sum(found)

    async def refresh(self, provider: str = "") -> None:
        """Ask all targets (of a provider) what listeners they have, and keep that.

        Raises:
            Outside: the first failure, after all were asked.
        """
        names = [name for name, placed in self.targets.items() if provider in {"", placed.target.provider}]
        results = await asyncio.gather(*(self._discover(name) for name in names), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def ensure(self) -> None:
        """Ask the targets of which nothing is known yet, each once: a service that just started has not looked.

        What a target answers then is no failure of the caller's: it is logged.
        """
        unasked = [name for name in self.targets if name not in self._asked]
        if not unasked:
            return
        self._asked.update(unasked)
        known = {listener.key.target for listener in await self.store.read(lambda tx: tx.listeners.list())}
        names = [name for name in unasked if name not in known]
        for name, result in zip(
            names, await asyncio.gather(*(self._discover(name) for name in names), return_exceptions=True), strict=True
        ):
            if isinstance(result, Outside):
                log.warning("inventory.not_seen", target=name, error=type(result).__name__, message=result.message)
            elif isinstance(result, BaseException):
                raise result

    async def _discover(self, name: str) -> Sequence[Listener]:
        """Ask a target what listeners it has, and keep that, or why it gave no answer."""
        try:
            listeners = await self.targets[name].target.discover()
        except Outside as error:
            if not _is_of_database(error):
                problem, now = problem_from(error), self.clock.now()
                await self.store.write(lambda tx: tx.listeners.miss(name, problem, now=now))
            raise
        now = self.clock.now()
        await self.store.write(lambda tx: tx.listeners.replace(name, listeners, now=now))
        return listeners

    async def _look_at(self, name: str) -> int:
        try:
            listeners = {listener.key: listener for listener in await self._discover(name)}
        except Outside as error:
            if _is_of_database(error):
                raise
            log.warning("inventory.not_seen", target=name, error=type(error).__name__, message=error.message)
            return 0
        rows, versions = await self.store.read(partial(_read, target=name))
        slots = asyncio.Semaphore(PROOFS_AT_ONCE)

        async def see(attachment: Attachment) -> _Seen:
            async with slots:
                return await self._see(attachment, listeners, versions.get(attachment.id))

        seen = await asyncio.gather(*(see(row) for row in rows))
        now = self.clock.now()
        await self.store.write(lambda tx: self._record(tx, seen, now=now))
        await self.store.write(lambda tx: self._go_on(tx, name, now=now))
        for one in seen:
            if one.problem is not None:
                log.warning(
                    "inventory.drift",
                    certificate=one.attachment.entry_id,
                    config=one.attachment.config,
                    listener=str(one.attachment.listener),
                    message=one.problem.message,
                )
        return sum(1 for one in seen if one.problem is not None)

    def _go_on(self, tx: UnitOfWork, target: str, *, now: datetime) -> None:
        """Start deployments that wait because the target did not answer: it does now, and their ladder is long."""
        stuck = {
            row.entry_uid
            for row in tx.attachments.list_of_target(target)
            if row.problem is not None and row.problem.type == Unreachable.__name__ and row.stage is not Stage.PROVEN
        }
        for uid in sorted(stuck):
            entry = tx.entries.get_by_uid(uid)
            if entry is not None:
                ensure_deployment(tx, entry, priority=PRIORITY_ROLLOUT, now=now, new_id=self.new_id)

    async def _see(
        self, attachment: Attachment, listeners: Mapping[ListenerKey, Listener], version: Version | None
    ) -> _Seen:
        listener = listeners.get(attachment.listener)
        if listener is None:
            return _Seen(attachment, None, _drift(f"The listener {attachment.listener} does not exist any more."))
        if not listener.holds(attachment.handle):
            message = f"{attachment.listener} does not hold {attachment.entry_id!r} any more: somebody took it off."
            return _Seen(attachment, None, _drift(message))
        if attachment.is_default and listener.default != attachment.handle:
            message = f"{attachment.entry_id!r} is not the default of {attachment.listener} any more."
            return _Seen(attachment, None, _drift(message))
        if version is None:
            return _Seen(attachment, None, None)
        try:
            proof = await self.prover.prove(
                listener,
                expect(version, is_default=attachment.is_default, policy=attachment.client_policy),
                grace_seconds=GRACE_SECONDS,
            )
        except Outside as error:
            return _Seen(attachment, None, problem_from(error))
        message = f"{attachment.listener} does not serve {attachment.entry_id!r} any more: {proof.message}"
        return _Seen(attachment, proof, None if proof.is_served else _drift(message))

    def _record(self, tx: UnitOfWork, seen: Sequence[_Seen], *, now: datetime) -> None:
        drifted: set[EntryUID] = set()
        held = lock_attachments(tx, [one.attachment.listener for one in seen])
        for one in seen:
            fresh = held.get(one.attachment.id)
            if fresh is None or fresh.updated_at != one.attachment.updated_at:
                continue  # changed while we looked
            proof = one.proof or fresh.proof
            if one.problem is None:  # also what had drifted, and somebody has put right
                tx.attachments.update(replace(fresh, stage=Stage.PROVEN, proof=proof, problem=None, updated_at=now))
                continue
            stage = Stage.DRIFTED
            tx.attachments.update(replace(fresh, stage=stage, proof=proof, problem=one.problem, updated_at=now))
            if fresh.stage is Stage.PROVEN:  # one that had drifted before has its deployment, with its own ladder
                drifted.add(fresh.entry_uid)
        for uid in sorted(drifted) if self.repairs else ():
            entry = tx.entries.get_by_uid(uid)
            if entry is not None:
                ensure_deployment(tx, entry, priority=PRIORITY_ROLLOUT, now=now, new_id=self.new_id)


def _read(tx: UnitOfWork, *, target: str) -> tuple[Sequence[Attachment], dict[str, Version]]:
    """Return what was proven at the target, also if it has drifted, and the version it was proven with if current.

    What another certificate is about to take the place of is left out: it may be off the listener already.
    """
    wanted = [row for row in tx.attachments.list_of_target(target) if row.wanted is Wanted.ATTACHED]
    going = {(row.listener, row.replaces) for row in wanted if row.replaces is not None}
    rows = [
        row
        for row in wanted
        if row.stage in {Stage.PROVEN, Stage.DRIFTED} and (row.listener, row.entry_uid) not in going
    ]
    current = {uid: entry.current for uid in {row.entry_uid for row in rows} if (entry := tx.entries.get_by_uid(uid))}
    versions: dict[str, Version] = {}
    for row in rows:
        version = current.get(row.entry_uid)
        if version is not None and version.id == row.version:
            versions[row.id] = version
    return rows, versions


def _is_of_database(error: Outside) -> bool:
    """Return whether it was our own database that did not answer; of the target nothing is known then."""
    return isinstance(error, Unreachable) and error.phase == "database"


def _drift(message: str) -> Problem:
    return Problem(message=message, type="Drifted", detail=message, subproblems={}, retry=BACKOFF.rule)

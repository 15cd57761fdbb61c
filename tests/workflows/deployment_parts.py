"""What the deployment workflow's tests share: entries with versions, fake targets, an engine in memory that may die."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import sqlalchemy as sa
from issuance_parts import MOST_DEATHS, Death, Died, DirectFlow, MortalStore

from certorbit.deploying.starting import PRIORITY_ROLLOUT, ensure_deployment, take_over
from certorbit.model.balancer import ListenerKey
from certorbit.model.deployment import Attachment, AttachmentID, Rollout, Stage, Wanted
from certorbit.model.entry import (
    ConfigID,
    Configuration,
    Entry,
    EntryID,
    EntryUID,
    Side,
    Source,
    Version,
    VersionID,
    key_context,
)
from certorbit.model.operation import Lane, Operation, OperationID
from certorbit.ports.store import Job
from certorbit.ports.target import PlacedTarget
from certorbit.services import balancers
from certorbit.storage import SQLStore, make_engine
from certorbit.workflows.deployment import Deployment
from certorbit.workflows.proof import Prover
from certorbit.workflows.rollout import Roller
from certorbit.workflows.turns import ScopeTurns
from fakes.clock import FakeChance, FakeClock
from fakes.fake_target import FakeProber, FakeTarget
from fakes.memory_keyring import MemoryKeyring
from targets.target_bench import make_bundle

PROD = ConfigID("prod")


@dataclass
class Lab:
    """A store, targets, and the workflow. `drive` is the engine."""

    store: SQLStore
    mortal_store: MortalStore
    keyring: MemoryKeyring
    clock: FakeClock
    death: Death
    targets: Sequence[FakeTarget]
    prober: FakeProber
    jobs: dict[str, Job]
    grace_seconds: float = 10.0
    recorded: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _done: set[str] = field(default_factory=set)

    def new_id(self) -> str:
        return f"{self.store.engine.url.database}-{next(self._numbers)}".rpartition("/")[2]

    def workflow(self) -> Deployment:
        """Return the workflow as a process has it that just started."""
        chance = FakeChance(0.0)
        return Deployment(
            store=self.mortal_store,
            targets={
                target.name: PlacedTarget(target=target, configurations=(), grace_seconds=self.grace_seconds)
                for target in self.targets
            },
            roller=Roller(
                store=self.mortal_store,
                keyring=self.keyring,
                prover=Prover(prober=self.prober, clock=self.clock, chance=chance),
                clock=self.clock,
                chance=chance,
                tries=2,
                turns=ScopeTurns(store=self.mortal_store, clock=self.clock, chance=chance, is_alone=False),
            ),
            clock=self.clock,
            chance=chance,
            parallel=1,
            new_id=self.new_id,
            wake=lambda _: None,
        )

    async def add_entry(self, name: str) -> Entry:
        """Store an entry with its first version."""
        version = self._version(name, 1)
        entry = Entry(
            uid=EntryUID(f"uid-{name}"),
            config=PROD,
            id=EntryID(name),
            side=Side.SERVER,
            source=Source.GENERATED,
            le_auto_renew=True,
            le_auto_replace=True,
            identifiers=version.facts.san,
            provider_links=(),
            crl=(),
            input_digest=name,
            uploaded=self.clock.now(),
            current=version,
        )
        await self.store.write(lambda tx: tx.entries.add(entry))
        return entry

    async def renew(self, name: str, number: int) -> Version:
        """Give the entry its next version, as an issuance does."""
        version = self._version(name, number)

        def work(tx: balancers.UnitOfWork) -> None:
            tx.entries.add_version(version)
            entry = tx.entries.get_by_uid(version.entry_uid)
            assert entry is not None
            ensure_deployment(tx, entry, priority=PRIORITY_ROLLOUT, now=self.clock.now(), new_id=self.new_id)

        await self.store.write(work)
        return version

    async def attach(self, name: str, key: ListenerKey, *, as_default: bool = False) -> balancers.Asked:
        target = next(one for one in self.targets if one.name == key.target)
        command = balancers.Attach(
            config=PROD,
            entry=EntryID(name),
            listener=target.listeners[key],
            as_default=as_default,
            reaches=lambda _: True,
        )
        return await self.store.write(
            lambda tx: balancers.attach(tx, command, by="tester", now=self.clock.now(), new_id=self.new_id)
        )

    async def detach(self, name: str, key: ListenerKey) -> balancers.Asked | None:
        target = next(one for one in self.targets if one.name == key.target)
        return await self.store.write(
            lambda tx: balancers.detach(
                tx, PROD, name, target.listeners[key], by="tester", now=self.clock.now(), new_id=self.new_id
            )
        )

    async def take_over(self, old: str, new: str) -> None:
        def work(tx: balancers.UnitOfWork) -> None:
            before, after = tx.entries.find(PROD, EntryID(old)), tx.entries.find(PROD, EntryID(new))
            assert before is not None
            assert after is not None
            take_over(tx, before, after, now=self.clock.now(), new_id=self.new_id)

        await self.store.write(work)

    async def settle(self, asked: balancers.Asked) -> None:
        await self.store.write(lambda tx: balancers.settle(tx, asked))

    async def attach_for_good(self, name: str, *keys: ListenerKey, as_default: bool = False) -> None:
        """Attach, roll out, and tell the client."""
        asked = [await self.attach(name, key, as_default=as_default) for key in keys]
        await self.drive()
        for one in asked:
            await self.settle(one)

    async def drive(self, *, most: int = 1, of: str = "") -> None:
        """Run what is enqueued and due now, in order; what waits for later runs too, up to `most` times per operation.

        of: only this entry's.
        """
        turns: dict[str, int] = {}
        while True:
            due = [
                job
                for key, job in self.jobs.items()
                if key not in self._done and (job.delay_seconds == 0 or turns.get(job.operation, 1) < most)
            ]
            if not due:
                return
            job = due[0]
            self._done.add(job.workflow_id)
            if job.delay_seconds:
                turns[job.operation] = turns.get(job.operation, 1) + 1
                self.clock.advance(job.delay_seconds)
            await self._run(job)

    async def _run(self, job: Job) -> None:
        recorded = self.recorded.setdefault(job.workflow_id, [])
        for _ in range(MOST_DEATHS):
            try:
                await self.workflow().run(DirectFlow(recorded, self.death), job.operation, job.attempt)
            except Died:
                continue
            except BaseExceptionGroup as group:
                if group.split(Died)[1] is not None:
                    raise
                continue
            return
        raise AssertionError("it never comes to an end")

    async def attachments(self, name: str) -> dict[str, Attachment]:
        """Return the entry's attachments by listener name."""
        rows = await self.store.read(lambda tx: tx.attachments.list_of_entry(EntryUID(f"uid-{name}")))
        return {row.listener.listener: row for row in rows}

    async def stages(self, name: str) -> dict[str, str]:
        return {listener: row.stage.value for listener, row in (await self.attachments(name)).items()}

    async def operations(self, name: str) -> Sequence[Operation]:
        """Return the entry's deployments, the oldest first."""
        found = await self.store.read(
            lambda tx: tx.operations.list(config=PROD, entry=EntryID(name), lane=Lane.DEPLOYMENT)
        )
        return found[::-1]

    async def rollouts(self, operation: str) -> dict[str, Rollout]:
        rows = await self.store.read(lambda tx: tx.rollouts.list([OperationID(operation)]))
        return {row.listener.listener: row for row in rows}

    def steps(self, workflow: str) -> list[str]:
        return [name for name, _ in self.recorded.get(workflow, [])]

    def outcome(self, workflow: str, step: str) -> dict[str, object]:
        text = next(outcome for name, outcome in self.recorded[workflow] if name == step)
        found: dict[str, object] = json.loads(text)
        return found

    def _version(self, name: str, number: int) -> Version:
        bundle = make_bundle(name, number)
        version = VersionID(f"{name}-version-{number}")
        return Version(
            id=version,
            entry_uid=EntryUID(f"uid-{name}"),
            created_at=self.clock.now(),
            source=Source.GENERATED,
            chain_pem=bundle.chain_pem,
            sealed_key=self.keyring.seal(bundle.key.reveal().encode(), context=key_context(version)),
            facts=bundle.facts,
            le_hash="",
            issuer_name="scripted",
        )


def fingerprint(name: str, number: int) -> str:
    return make_bundle(name, number).facts.fingerprint


async def make_lab(path: Path, *, template: Path, targets: Sequence[FakeTarget], is_new: bool = True) -> Lab:
    """Return a lab on a SQLite database of its own at `path`. is_new: the template is an empty database."""
    shutil.copy(template, path)
    clock = FakeClock(auto_advance=True)
    store = SQLStore(make_engine(f"sqlite:///{path}"), clock=clock, chance=FakeChance())
    jobs: dict[str, Job] = {}

    def enqueue(_: sa.Connection, job: Job) -> None:
        jobs.setdefault(job.workflow_id, job)  # again is harmless, as it is for the engine

    store.connect_enqueue(enqueue)
    death = Death()
    now = clock.now()
    if is_new:
        await store.write(lambda tx: tx.configurations.add(Configuration(PROD, "", 1, now)))
    return Lab(
        store=store,
        mortal_store=MortalStore(store, death),
        keyring=MemoryKeyring(),
        clock=clock,
        death=death,
        targets=targets,
        prober=FakeProber(targets),
        jobs=jobs,
    )


__all__ = ["PROD", "AttachmentID", "Lab", "Stage", "Wanted", "fingerprint", "make_lab"]

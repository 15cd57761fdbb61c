"""A desk for the tests of renewals: a store, two scripted issuers, the sweep, and an engine in memory."""

import asyncio
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import sqlalchemy as sa
from issuance_parts import CHAINS, Death, DirectFlow, ScriptedIssuer

from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, EntryUID, Side, Source, Version, VersionID
from certorbit.model.failover import order_for
from certorbit.model.identifiers import Identifier
from certorbit.model.material import KeyType
from certorbit.model.operation import Operation, OperationKind
from certorbit.model.renewal import RenewalInfo, RenewalRules, note_answer, note_failure
from certorbit.model.schedule import Schedule
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts
from certorbit.ports.store import Job, UnitOfWork
from certorbit.services import renewals
from certorbit.services.permitting import ConfigIssuers
from certorbit.storage import SQLStore, make_engine
from certorbit.workflows.issuance import Issuance
from certorbit.workflows.renewal import Renewal
from fakes.clock import FakeChance, FakeClock
from fakes.fake_chains import make_csr
from fakes.memory_keyring import MemoryKeyring

PROD = ConfigID("prod")
NINETY = timedelta(days=90)
NO_SPREAD = RenewalRules(spread=0.0)


class ARIIssuer(ScriptedIssuer):
    """A scripted issuer whose CA has renewal windows.

    window: what it answers when it is asked; None: it has no such service. is_silent: it doesn't answer.
    asked: whose windows were asked for. replaced: what each order named as its predecessor.
    meanwhile: what else happens while it is asked.
    """

    def __init__(self, name: str, clock: FakeClock, *, directory: str = "") -> None:
        super().__init__()
        self.name = name
        self.directory = directory or f"https://{name}.example/dir"
        self.covers_wildcards = False
        self.window: tuple[datetime, datetime] | None = None
        self.is_silent = False
        self.breaks_at = ""  # a chain whose look-up ends in a bug
        self.asked: list[str] = []
        self.replaced: list[str | None] = []
        self.meanwhile: Callable[[SQLStore], object] | None = None
        self._clock = clock

    def covers(self, identifier: Identifier) -> bool:
        return self.covers_wildcards or not identifier.is_wildcard

    async def place_order(self, identifiers: Sequence[Identifier], *, replaces: str | None = None) -> str:
        self.replaced.append(replaces)
        return await super().place_order(identifiers, replaces=replaces)

    async def renewal_info(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:
        self.asked.append(chain_pem)
        if chain_pem == self.breaks_at:
            raise ZeroDivisionError
        now, uniform = self._clock.now(), FakeChance(0.5).between
        if self.is_silent:
            return note_failure(
                previous, problem="no answer", is_passing=True, retry_after=None, now=now, uniform=uniform
            )
        if self.window is None:
            return None
        start, end = self.window
        return note_answer(
            previous, start=start, end=end, explanation_url="", retry_after=None, now=now, uniform=uniform
        )


class Desk:
    """Entries, the sweep over them, and their attempts. Time moves when a test says so."""

    def __init__(self, path: Path, *, template: Path) -> None:
        shutil.copy(template, path)
        self.clock = FakeClock()
        self.store = SQLStore(make_engine(f"sqlite:///{path}"), clock=self.clock, chance=FakeChance())
        self.first, self.second = ARIIssuer("first", self.clock), ARIIssuer("second", self.clock)
        self.issuers: list[ARIIssuer] = [self.first, self.second]
        self.keyring = MemoryKeyring()
        self.reuse_key = False
        self.by_config: dict[str, tuple[str, ...]] = {}
        self.jobs: deque[Job] = deque()
        self.woken: set[str] = set()
        numbers = count(1)
        self.new_id = lambda: f"id-{next(numbers)}"
        self.store.connect_enqueue(self._enqueue)

    async def open(self) -> None:
        now = self.clock.now()
        await self.store.write(lambda tx: tx.configurations.add(Configuration(PROD, "", 1, now)))

    async def add(
        self,
        name: str = "shop",
        *,
        age: timedelta = timedelta(0),
        lifetime: timedelta = NINETY,
        source: Source = Source.GENERATED,
        side: Side = Side.SERVER,
        names: tuple[str, ...] = ("www.example.com",),
        le_auto_renew: bool = True,
        le_auto_replace: bool = True,
        issuer: str = "first",
    ) -> EntryUID:
        """Add an entry whose certificate was made `age` ago, due for its first look now."""
        uid = EntryUID(f"uid-{name}")
        version = self.make_version(uid, age=age, lifetime=lifetime, source=source, names=names, issuer=issuer)
        entry = Entry(
            uid=uid,
            config=PROD,
            id=EntryID(name),
            side=side,
            source=source,
            le_auto_renew=le_auto_renew,
            le_auto_replace=le_auto_replace,
            identifiers=names,
            provider_links=(),
            crl=(),
            input_digest="",
            uploaded=version.created_at,
            current=version,
        )

        def work(tx: UnitOfWork) -> None:
            tx.entries.add(entry)
            tx.schedules.look_at(uid, self.clock.now())

        await self.store.write(work)
        return uid

    def make_version(
        self,
        uid: EntryUID,
        *,
        age: timedelta = timedelta(0),
        lifetime: timedelta = NINETY,
        source: Source = Source.GENERATED,
        names: tuple[str, ...] = ("www.example.com",),
        issuer: str = "first",
    ) -> Version:
        """Return a version with a real chain; only the store's dates of it are made up."""
        chain_pem = CHAINS.issue(make_csr(*names)).decode()
        began = self.clock.now() - age
        facts = replace(read_facts(read_certificates(chain_pem)[0]), not_before=began, not_after=began + lifetime)
        is_generated = source is Source.GENERATED
        return Version(
            id=VersionID(self.new_id()),
            entry_uid=uid,
            created_at=began,
            source=source,
            chain_pem=chain_pem,
            sealed_key=None,
            facts=facts,
            le_hash="",
            issuer_name=issuer if is_generated else "",
        )

    def renewal(self) -> Renewal:
        """Return the sweep as a worker has it."""
        return Renewal(
            store=self.store,
            issuers=self.issuers,
            by_config=self.by_config,
            clock=self.clock,
            chance=FakeChance(),
            rules=NO_SPREAD,
            start=self._start,
            _done=self.woken,
            go_on=lambda tx, operation, now: renewals.start_next_attempt(tx, operation, issuer="", now=now),
        )

    def restart(self) -> None:
        """Let the next sweep be the first one of its worker."""
        self.woken = set()

    async def sweep(self, *, after: timedelta = timedelta(0)) -> int:
        """Sweep, in a minute that nobody has swept yet."""
        self.clock.advance(after.total_seconds())
        started = await self.renewal().sweep()
        self.clock.advance(minutes=1)
        return started

    def issuance(self) -> Issuance:
        """Return the workflow as a worker has it."""
        return Issuance(
            store=self.store,
            keyring=self.keyring,
            issuers=self.issuers,
            by_config=self.by_config,
            clock=self.clock,
            chance=FakeChance(0.0),
            key_type=KeyType.ECDSA_P256,
            reuse_key=self.reuse_key,
            new_id=self.new_id,
            wake=lambda _: None,
            slots=asyncio.Semaphore(1),
        )

    async def run_attempt(self) -> Operation:
        """Run the next attempt at its time. Returns: its operation afterwards."""
        job = self.jobs.popleft()
        self.clock.advance(job.delay_seconds)
        await self.issuance().run(DirectFlow([], Death()), job.operation, job.attempt)
        operation = await self.store.read(lambda tx: tx.operations.find(job.operation))
        assert operation is not None
        return operation

    async def renew(self) -> Operation:
        """Let the sweep start a renewal of the one entry, whose CA is in a hurry, and run its first attempt."""
        for issuer in self.issuers:
            issuer.window = (self.clock.now() - timedelta(days=2), self.clock.now() - timedelta(days=1))
        assert await self.sweep() == 1
        return await self.run_attempt()

    async def schedule(self, uid: EntryUID) -> Schedule:
        found = await self.store.read(lambda tx: tx.schedules.find(uid))
        assert found is not None
        return found

    async def entry(self, uid: EntryUID) -> Entry:
        found = await self.store.read(lambda tx: tx.entries.get_by_uid(uid))
        assert found is not None
        return found

    async def version(self, uid: EntryUID) -> Version:
        entry = await self.entry(uid)
        assert entry.current is not None
        return entry.current

    async def operations(self) -> Sequence[Operation]:
        """Return all operations, the newest first."""
        return await self.store.read(lambda tx: tx.operations.list())

    async def change(self, name: str = "shop", *, paused: bool | None = None, issuer: str | None = None) -> None:
        await self.store.write(
            lambda tx: renewals.change_schedule(
                tx,
                PROD,
                EntryID(name),
                paused=paused,
                issuer=issuer,
                issuers=self.config_issuers(),
                now=self.clock.now(),
            )
        )

    def config_issuers(self) -> ConfigIssuers:
        """Return the configuration's issuers as the API has them."""
        by_name = {issuer.name: issuer for issuer in self.issuers}
        names = order_for(PROD, tuple(by_name), self.by_config)
        return ConfigIssuers([by_name[name] for name in names], is_own=bool(self.by_config.get(PROD)))

    def _start(self, tx: UnitOfWork, entry: Entry, kind: OperationKind, issuer: str, now: datetime) -> Operation:
        return renewals.start_operation(tx, entry, kind, issuer=issuer, now=now, new_id=self.new_id)

    def _enqueue(self, _: sa.Connection, job: Job) -> None:
        self.jobs.append(job)

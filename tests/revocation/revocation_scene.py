"""A scene for the tests of revocation: a store, a real web server with lists, the guarded download, and the look."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509

from certorbit.model.crl import Verdict
from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, EntryUID, Side, Source, Version, VersionID
from certorbit.model.identifiers import Identifier
from certorbit.model.operation import Operation
from certorbit.net.fetch import GuardedFetcher
from certorbit.observe.metrics import Metrics
from certorbit.pki.read import read_facts
from certorbit.ports.authority import OwnRevocations
from certorbit.ports.store import Job, UnitOfWork
from certorbit.revocation.lists import CRLLists
from certorbit.revocation_settings import RevocationSettings
from certorbit.services import revocation
from certorbit.services.permitting import ConfigIssuers
from certorbit.storage import SQLStore, make_engine
from certorbit.workflows.revocation_look import RevocationLook
from fakes.clock import FakeChance, FakeClock
from hostile_web import Web
from make import Chain, distribution_points, make_chain, make_crl

PROD = ConfigID("prod")
SHOP = EntryUID("uid-shop")


class NamedIssuer:
    """What replacing asks of an issuer."""

    def __init__(self, name: str, *, directory: str = "https://ca.example/dir") -> None:
        self.name = name
        self.directory = directory

    def covers(self, identifier: Identifier) -> bool:
        return not identifier.is_wildcard


@dataclass
class Scene:
    """Entries whose certificates name lists on the web server. Time moves when a test says so."""

    web: Web
    path: Path
    template: Path
    own: OwnRevocations | None = None
    issuers: list[NamedIssuer] = field(default_factory=lambda: [NamedIssuer("acme")])
    settings: RevocationSettings = field(default_factory=RevocationSettings)
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        shutil.copy(self.template, self.path)
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.store = SQLStore(make_engine(f"sqlite:///{self.path}"), clock=self.clock, chance=FakeChance())
        self.store.connect_enqueue(self._enqueue)
        numbers = count(1)
        self.new_id = lambda: f"id-{next(numbers)}"
        self.lists = self.make_lists()

    def make_lists(self) -> CRLLists:
        """Return what downloads and keeps lists, as a process has it that has just started."""
        return CRLLists(
            store=self.store,
            fetcher=GuardedFetcher(self.web.rules()),
            own=self.own,
            settings=self.settings,
            clock=self.clock,
            chance=FakeChance(0.5),
            metrics=self.metrics,
        )

    async def open(self) -> None:
        now = self.clock.now()
        await self.store.write(lambda tx: tx.configurations.add(Configuration(PROD, "", 1, now)))

    def chain(self, *paths: str, name: str = "shop", **parts: object) -> Chain:
        """Return a chain whose leaf names one distribution point for each path. parts: of `make_chain`."""
        points = distribution_points(*([self.web.url(path)] for path in paths))
        return make_chain(names=[f"{name}.example.com"], extensions=[points] if paths else [], **parts)  # type: ignore[arg-type]

    def publish(
        self,
        path: str,
        chain: Chain,
        *,
        revoked: Sequence[x509.RevokedCertificate | int] = (),
        etag: str = "",
        **parts: object,
    ) -> bytes:
        """Put a list of the chain's issuer at the path, valid from now. parts: of `make_crl`."""
        now = self.clock.now()
        times = {"start": now - timedelta(hours=1), "end": now + timedelta(days=7)}
        der = make_crl(chain.issuers[0], chain.issuer_keys[0], revoked=revoked, **{**times, **parts})  # type: ignore[arg-type]
        self.web.say(path, der, headers=[f"ETag: {etag}"] if etag else [])
        return der

    async def add(
        self,
        chain: Chain,
        *,
        name: str = "shop",
        source: Source = Source.UPLOADED,
        age: timedelta = timedelta(days=3),
        automatic: bool = True,
        chain_pem: str = "",
    ) -> Version:
        """Add an entry with this certificate. automatic: `le_auto_renew` and `le_auto_replace`."""
        uid = EntryUID(f"uid-{name}")
        version = Version(
            id=VersionID(f"v-{name}"),
            entry_uid=uid,
            created_at=self.clock.now() - age,
            source=source,
            chain_pem=chain_pem or chain.chain_pem,
            sealed_key=None,
            facts=read_facts(chain.leaf),
            le_hash="",
            issuer_name="acme" if source is Source.GENERATED else "",
        )
        entry = Entry(
            uid=uid,
            config=PROD,
            id=EntryID(name),
            side=Side.SERVER,
            source=source,
            le_auto_renew=automatic,
            le_auto_replace=automatic,
            identifiers=version.facts.san,
            provider_links=(),
            crl=(),
            input_digest="",
            uploaded=version.created_at,
            current=version,
        )
        await self.store.write(lambda tx: tx.entries.add(entry))
        return version

    async def renew(self, before: Version, chain: Chain) -> Version:
        """Give the entry its next version."""
        after = replace(
            before,
            id=VersionID(f"{before.id}-next"),
            chain_pem=chain.chain_pem,
            facts=read_facts(chain.leaf),
            created_at=self.clock.now(),
        )
        await self.store.write(lambda tx: tx.entries.add_version(after))
        return after

    async def look(self, *, after: timedelta = timedelta(minutes=1)) -> int:
        """Let time pass and the look come round. Returns: how many turned out to be revoked."""
        self.clock.advance(after.total_seconds())
        look = RevocationLook(
            store=self.store, source=self.lists, clock=self.clock, replace=self._replace, metrics=self.metrics
        )
        return await look.sweep()

    async def verdict(self, name: str = "shop", *, version: str = "") -> Verdict:
        """Return what is known now."""
        found = await self.store.read(lambda tx: tx.revocations.find_verdict(VersionID(version or f"v-{name}")))
        assert found is not None
        return found.at(self.clock.now())

    async def operations(self) -> Sequence[Operation]:
        return await self.store.read(lambda tx: tx.operations.list())

    def _replace(
        self, tx: UnitOfWork, entry: Entry, *, verdict: Verdict, is_news: bool, now: datetime
    ) -> Operation | None:
        return revocation.replace_revoked(
            tx,
            entry,
            verdict=verdict,
            is_news=is_news,
            issuers=ConfigIssuers(self.issuers),  # type: ignore[arg-type]
            now=now,
            new_id=self.new_id,
        )

    def _enqueue(self, _: sa.Connection, job: Job) -> None:
        self.jobs.append(job)

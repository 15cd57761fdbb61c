"""What the tests of the use-cases share: commands, and a desk that carries them out as the API does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count

from certorbit.model.commands import Generate, Upload
from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, ProviderLink, Side
from certorbit.model.identifiers import Identifier, normalise_identifiers
from certorbit.model.operation import Operation, OperationID
from certorbit.pki.upload import read_upload
from certorbit.ports.store import Job
from certorbit.services import certificates, promises
from certorbit.storage import SQLStore
from certorbit.tls_settings import TLSSettings
from fakes.clock import FakeClock
from fakes.memory_keyring import MemoryKeyring
from make import Chain, make_chain

PROD = ConfigID("prod")
SHOP = EntryID("shop")
BY = "deploy"  # the caller's key
LINKS = (ProviderLink(link="arn:aws:acm:1", provider="aws", region="eu-central-1"),)


def make_generate(
    entry_id: str = SHOP,
    *names: str,
    config: str = PROD,
    side: Side = Side.SERVER,
    le_auto_renew: bool = True,
    le_auto_replace: bool = True,
    provider_links: tuple[ProviderLink, ...] = (),
) -> Generate:
    return Generate(
        config=ConfigID(config),
        id=EntryID(entry_id),
        side=side,
        identifiers=normalise_identifiers(names or ("www.example.com", "example.com")),
        le_auto_renew=le_auto_renew,
        le_auto_replace=le_auto_replace,
        provider_links=provider_links,
    )


def make_upload(
    entry_id: str = SHOP,
    *,
    config: str = PROD,
    side: Side = Side.SERVER,
    key_index: int = 0,
    has_intermediates: bool = True,
    le_auto_renew: bool = True,
    provider_links: tuple[ProviderLink, ...] = (),
    crl: tuple[str, ...] = (),
) -> Upload:
    chain = _make_chain(key_index)
    text = chain.root_pem if side.is_ca_bundle else chain.chain_pem if has_intermediates else chain.leaf_pem
    return Upload(
        config=ConfigID(config),
        id=EntryID(entry_id),
        side=side,
        material=read_upload(text, "" if side.is_ca_bundle else chain.key_pem, side=side),
        le_auto_renew=le_auto_renew,
        le_auto_replace=True,
        provider_links=provider_links,
        crl=crl,
    )


@cache
def _make_chain(key_index: int) -> Chain:
    """The same chain each time: a repeated upload is byte for byte the same."""
    return make_chain(names=("www.example.com",), key_index=key_index)


@dataclass
class Desk:
    """A store with the configuration `prod`, and the use-cases as the API calls them."""

    store: SQLStore
    clock: FakeClock
    keyring: MemoryKeyring = field(default_factory=MemoryKeyring)
    jobs: list[Job] = field(default_factory=list)
    own_tls: TLSSettings = field(default_factory=TLSSettings)

    def __post_init__(self) -> None:
        numbers = count(1)
        self.new_id: Callable[[], str] = lambda: f"id-{next(numbers)}"
        self.store.connect_enqueue(lambda _, job: self.jobs.append(job))

    async def generate(
        self, command: Generate, *, covers: Callable[[Identifier], bool] = lambda identifier: not identifier.is_wildcard
    ) -> OperationID | None:
        accepted = await self.store.write(
            lambda tx: certificates.generate(
                tx, command, by=BY, now=self.clock.now(), new_id=self.new_id, covers=covers
            )
        )
        return accepted.operation

    async def upload(self, command: Upload) -> None:
        accepted = await self.store.write(
            lambda tx: certificates.upload(
                tx, command, by=BY, now=self.clock.now(), new_id=self.new_id, keyring=self.keyring
            )
        )
        assert accepted.operation is None

    async def promise(self, operation: OperationID) -> Operation:
        return await self.store.write(lambda tx: promises.promise(tx, operation, now=self.clock.now()))

    async def delete(self, entry_id: str = SHOP) -> None:
        now, own_tls = self.clock.now(), self.own_tls
        await self.store.write(
            lambda tx: certificates.delete(tx, PROD, EntryID(entry_id), by=BY, now=now, own_tls=own_tls)
        )

    async def find(self, entry_id: str = SHOP) -> Entry | None:
        return await self.store.read(lambda tx: tx.entries.find(PROD, EntryID(entry_id)))

    async def operation(self, operation: OperationID) -> Operation:
        found = await self.store.read(lambda tx: tx.operations.find(operation))
        assert found is not None
        return found

    async def configuration(self) -> Configuration:
        found = await self.store.read(lambda tx: tx.configurations.find(PROD))
        assert found is not None
        return found


async def add_prod(store: SQLStore, clock: FakeClock) -> None:
    await store.write(lambda tx: tx.configurations.add(Configuration(PROD, "", 1, clock.now())))

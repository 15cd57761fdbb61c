"""The ACME client against the fake CA, with a clock that moves by itself when somebody waits."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from certorbit.acme.issuer import ACMEIssuer
from certorbit.settings import IssuerSettings
from certorbit.solvers.http01 import HTTP01Solver
from fakes.clock import FakeChance, FakeClock
from fakes.fake_ca import FakeCA
from fakes.memory_keyring import MemoryKeyring
from fakes.memory_store import MemoryStore

MakeIssuer = Callable[..., ACMEIssuer]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(auto_advance=True)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def keyring() -> MemoryKeyring:
    return MemoryKeyring()


@pytest.fixture
async def ca() -> AsyncIterator[FakeCA]:
    async with FakeCA() as running:
        yield running


@pytest.fixture
async def make_issuer(store: MemoryStore, keyring: MemoryKeyring, clock: FakeClock) -> AsyncIterator[MakeIssuer]:
    """Make issuers on one store and one keyring; all are closed after the test."""
    async with AsyncExitStack() as stack:

        def make(directory: str, *, limit_seconds: float = 60.0, **settings: object) -> ACMEIssuer:
            issuer = ACMEIssuer(
                settings=IssuerSettings(name="fake", directory=directory, **settings),
                store=store,
                keyring=keyring,
                solvers=[HTTP01Solver(store=store, clock=clock)],
                clock=clock,
                chance=FakeChance(),
                limit_seconds=limit_seconds,
            )
            stack.push_async_callback(issuer.close)
            return issuer

        yield make


@pytest.fixture
def issuer(ca: FakeCA, make_issuer: MakeIssuer) -> ACMEIssuer:
    return make_issuer(ca.directory_url)

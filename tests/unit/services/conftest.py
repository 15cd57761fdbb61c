"""The use-cases on a SQLite store, with ids that can be read and a clock that stands still."""

from collections.abc import AsyncIterator

import pytest
from desk import Desk, add_prod

from certorbit.storage import SQLStore, make_engine
from fakes.clock import FakeChance, FakeClock


@pytest.fixture
async def desk(sqlite_url: str, clock: FakeClock) -> AsyncIterator[Desk]:
    store = SQLStore(make_engine(sqlite_url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    await add_prod(store, clock)
    yield Desk(store, clock)
    await store.close()

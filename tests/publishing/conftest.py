"""Places for buckets: a folder, moto's S3, and a stand-in for Google's."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from certorbit.storage import SQLStore, make_engine
from fakes.clock import FakeChance, FakeClock
from publishing.edge_buckets import Places
from publishing.gcs_stand_in import GCSStandIn
from publishing.s3_server import S3Server
from publishing.scene import Scene


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GCSStandIn]:
    server = GCSStandIn()
    yield server
    server.stop()


@pytest.fixture
def places(s3_server: S3Server, gcs_server: GCSStandIn, tmp_path: Path) -> Iterator[Places]:
    yield Places(tmp_path, s3_server, gcs_server)
    s3_server.faults.clear()


@pytest.fixture
async def scene(sqlite_url: str) -> AsyncIterator[Scene]:
    store = SQLStore(make_engine(sqlite_url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    made = Scene(store)
    await made.fill()
    yield made
    await store.close()

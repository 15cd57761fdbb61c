"""How the store should be called from the event loop: sync inline, sync in threads, or async.

`python benchmarks/storage.py [postgresql://…]`: reads one entry with its current version (5.5 KB) by name, 32 callers
on one loop, and writes entries from 10 callers. docs/decisions/0006 has the numbers that decided. The async row needs
aiosqlite for SQLite, which Certorbit itself doesn't use.
"""

import asyncio
import importlib.util
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from certorbit.clock import SystemChance, SystemClock
from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, EntryUID, Side, Source, Version, VersionID
from certorbit.model.material import CertificateFacts
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore, make_engine, migrate
from certorbit.storage.engine import normalise_url
from certorbit.storage.entries import SQLEntries
from certorbit.storage.transaction import Transaction

PROD = ConfigID("prod")
ENTRIES = 1000
READERS, READS = 32, 8000
WRITERS, WRITES = 10, 1000
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def make_entry(name: str) -> Entry:
    uid = EntryUID(f"u-{name}")
    facts = CertificateFacts(
        subject="CN=www.example.test",
        issuer="C=US, O=Let's Encrypt, CN=R11",
        san=("www.example.test", "example.test"),
        not_before=NOW,
        not_after=NOW,
        serial="0a" * 16,
        cdp=("http://crl.example.test/1.crl",),
        fingerprint="ab" * 32,
        public_key_sha256="cd" * 32,
        key_algorithm="ECDSA P-256",
        authority_key_id="ef" * 20,
        is_ca=False,
    )
    version = Version(
        id=VersionID(f"v-{name}"),
        entry_uid=uid,
        created_at=NOW,
        source=Source.GENERATED,
        chain_pem="M" * 5000,
        sealed_key=b"k" * 330,
        facts=facts,
        le_hash="12" * 32,
        issuer_name="acme",
    )
    return Entry(
        uid=uid,
        config=PROD,
        id=EntryID(name),
        side=Side.SERVER,
        source=Source.GENERATED,
        le_auto_renew=True,
        le_auto_replace=True,
        identifiers=facts.san,
        provider_links=(),
        crl=(),
        input_digest="34" * 32,
        uploaded=NOW,
        current=version,
    )


async def measure(label: str, call: Callable[[int], Awaitable[object]], *, callers: int, calls: int) -> None:
    """Print calls per second, CPU per call of this process, and the 50th and 99th percentile."""
    times: list[float] = []
    numbers = iter(range(calls))

    async def work() -> None:
        for number in numbers:
            start = time.perf_counter()
            await call(number)
            times.append(time.perf_counter() - start)
            await asyncio.sleep(0)  # as between two requests: the others get their turn

    await call(0)
    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(callers)))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    times.sort()
    p50, p99 = (1000 * times[int(len(times) * part)] for part in (0.5, 0.99))
    print(f"{label:34} {calls / wall:7.0f}/s  {1e6 * cpu / calls:5.0f} us CPU  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms")


async def compare(url: str) -> None:
    engine = make_engine(url)
    migrate(engine)
    store = SQLStore(engine, clock=SystemClock(), chance=SystemChance())
    await store.write(fill)
    kind = engine.dialect.name
    threads = ThreadPoolExecutor(8)
    loop = asyncio.get_running_loop()

    def read_here(number: int) -> Entry | None:
        return store._read_once(lambda tx: tx.entries.find(PROD, name(number)))  # noqa: SLF001 - what is compared

    async def read_inline(number: int) -> None:
        assert read_here(number)

    async def read_in_thread(number: int) -> None:
        assert await loop.run_in_executor(threads, read_here, number)

    async def read_by_store(number: int) -> None:
        assert await store.read(lambda tx: tx.entries.find(PROD, name(number)))

    async def write_by_store(number: int) -> None:
        entry = make_entry(f"w{time.monotonic_ns()}-{number}")
        await store.write(lambda tx: tx.entries.add(replace(entry)))

    await measure(f"{kind}: read, sync inline", read_inline, callers=READERS, calls=READS)
    await measure(f"{kind}: read, sync in 8 threads", read_in_thread, callers=READERS, calls=READS)
    await measure_async(url, kind)
    await measure(f"{kind}: read, the store", read_by_store, callers=READERS, calls=READS)
    await measure(f"{kind}: write, the store", write_by_store, callers=WRITERS, calls=WRITES)
    await store.close()


async def measure_async(url: str, kind: str) -> None:
    engine = make_async_engine(url)
    if engine is None:
        return

    async def read_async(number: int) -> None:
        async with engine.connect() as connection:
            assert await connection.run_sync(lambda c: find(c, name(number)))

    await measure(f"{kind}: read, SQLAlchemy async", read_async, callers=READERS, calls=READS)
    await engine.dispose()


def fill(tx: UnitOfWork) -> None:
    tx.configurations.add(Configuration(id=PROD, description="", version=1, date=NOW))
    for number in range(ENTRIES):
        tx.entries.add(make_entry(f"e{number}"))


def name(number: int) -> EntryID:
    return EntryID(f"e{number * 7919 % ENTRIES}")


def find(connection: sa.Connection, entry: EntryID) -> Entry | None:
    return SQLEntries(Transaction(connection, database="", is_writing=False)).find(PROD, entry)


def make_async_engine(url: str) -> AsyncEngine | None:
    parsed = normalise_url(url)
    if parsed.drivername.startswith("postgresql"):
        return create_async_engine(parsed, pool_size=16)
    if importlib.util.find_spec("aiosqlite") is None:
        print("sqlite: aiosqlite is not installed, so async is not measured")
        return None
    return create_async_engine(parsed.set(drivername="sqlite+aiosqlite"), pool_size=16)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(f"sqlite:///{Path(folder) / 'certorbit.db'}"))
    for url in sys.argv[1:]:
        asyncio.run(compare(url))


if __name__ == "__main__":
    main()

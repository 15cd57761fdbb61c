"""`ports.crl_store` on SQLite and on PostgreSQL: verdicts, what is due, and revocation lists."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from certorbit.model.crl import HOLD, Verdict, VerdictState
from certorbit.model.entry import ConfigID, Entry, EntryUID, Side, Source, VersionID
from certorbit.ports.crl_store import StoredCRL
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore, make_engine, migrate
from certorbit.storage.tables_revocation import crls
from fakes.clock import FakeChance, FakeClock
from records import NOW, PROD, make_configuration, make_entry, make_version

HOUR = timedelta(hours=1)
UID = EntryUID("u-shop")
REVOKED = Verdict(
    state=VerdictState.REVOKED,
    reason="keyCompromise",
    revoked_at=NOW - HOUR,
    checked_at=NOW,
    valid_until=NOW + HOUR,
    sources=("http://crl.example.test/1.crl",),
    problems=("crl.example.test: é",),
)
LIST = StoredCRL(
    url="http://crl.example.test/1.crl",
    issuer_id="ab" * 32,
    next_fetch_at=NOW + HOUR,
    etag='"7"',
    last_modified="Tue, 24 Nov 2026 12:00:00 GMT",
    number=2**160 - 1,
    this_update=NOW - HOUR,
    next_update=NOW + 24 * HOUR,
    fetched_at=NOW,
    failures=2,
    problem="no answer",
    digest="cd" * 32,
)
MANY = 3_000


def entry_with(name: str, *, version: str = "v1", **fields: object) -> Entry:
    uid = f"u-{name}"
    return replace(make_entry(name, uid=uid), current=make_version(uid, id=version), **fields)  # type: ignore[arg-type]


async def add(store: SQLStore, *entries: Entry) -> None:
    def work(tx: UnitOfWork) -> None:
        for entry in entries:
            tx.entries.add(entry)

    await store.write(work)


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    def work(tx: UnitOfWork) -> None:
        tx.configurations.add(make_configuration())
        tx.configurations.add(make_configuration("stage"))

    await store.write(work)
    return store


async def due(store: SQLStore, *, limit: int = 100) -> list[tuple[str, str | None]]:
    """Return what is due now: the version, and the entry whose current one it is."""
    found = await store.read(lambda tx: tx.revocations.list_due(now=NOW, limit=limit))
    return [(one.version, one.entry.id if one.entry else None) for one in found]


async def put(store: SQLStore, version: str, verdict: Verdict, *, look_at: object = None) -> None:
    await store.write(
        lambda tx: tx.revocations.put_verdict(VersionID(version), verdict, look_at=look_at)  # type: ignore[arg-type]
    )


async def test_a_new_version_is_unknown_and_due_at_once(prod: SQLStore) -> None:
    await add(prod, entry_with("shop"))
    assert await due(prod) == [("v1", "shop")]
    verdict = await prod.read(lambda tx: tx.revocations.find_verdict(VersionID("v1")))
    assert verdict == Verdict(state=VerdictState.UNKNOWN)


async def test_what_is_due_comes_with_its_entry_and_what_was_known(prod: SQLStore) -> None:
    entry = entry_with("shop")
    await add(prod, entry)
    await put(prod, "v1", REVOKED, look_at=NOW)
    (found,) = await prod.read(lambda tx: tx.revocations.list_due(now=NOW, limit=1))
    assert (found.entry, found.verdict) == (entry, REVOKED)


async def test_bundles_of_cas_and_the_placeholder_are_never_due(prod: SQLStore) -> None:
    built_in = entry_with("placeholder", version="v2")
    assert built_in.current is not None
    built_in = replace(built_in, current=replace(built_in.current, source=Source.BUILT_IN))
    await add(prod, entry_with("ca", side=Side.CLIENT_CA), built_in)
    assert await due(prod) == []
    assert await prod.read(lambda tx: tx.revocations.find_verdict(VersionID("v1"))) is None


async def test_the_version_before_is_due_without_an_entry_and_again_with_it_after_a_roll_back(prod: SQLStore) -> None:
    await add(prod, entry_with("shop"))
    await put(prod, "v1", REVOKED, look_at=NOW)
    await prod.write(lambda tx: tx.entries.add_version(make_version(UID, id="v2")))
    assert await due(prod) == [("v2", "shop"), ("v1", None)]
    await put(prod, "v1", REVOKED)
    assert await due(prod) == [("v2", "shop")]
    await prod.write(lambda tx: tx.entries.set_current(UID, VersionID("v1")))
    assert sorted(await due(prod)) == [("v1", "shop"), ("v2", None)]


async def test_what_is_due_comes_in_order_and_in_pages(prod: SQLStore) -> None:
    await add(prod, *(entry_with(f"e{n}", version=f"v{n}") for n in range(4)))
    for number, look_at in enumerate([NOW, NOW - HOUR, NOW + HOUR, NOW - 2 * HOUR]):
        await put(prod, f"v{number}", REVOKED, look_at=look_at)
    assert [version for version, _ in await due(prod)] == ["v3", "v1", "v0"]
    assert [version for version, _ in await due(prod, limit=2)] == ["v3", "v1"]
    await prod.write(lambda tx: tx.revocations.look_at(VersionID("v2"), NOW))
    assert len(await due(prod)) == 4


async def test_a_verdict_reads_back_as_written_and_goes_with_its_entry(prod: SQLStore) -> None:
    await add(prod, entry_with("shop"))
    await put(prod, "v1", REVOKED)
    assert await prod.read(lambda tx: tx.revocations.find_verdict(VersionID("v1"))) == REVOKED
    await prod.write(lambda tx: tx.entries.delete(UID))
    assert await prod.read(lambda tx: tx.revocations.find_verdict(VersionID("v1"))) is None
    await put(prod, "v1", REVOKED)  # harmless
    assert await due(prod) == []


async def test_the_revoked_ones_of_a_configuration_are_listed_if_they_are_current(prod: SQLStore) -> None:
    stage = ConfigID("stage")
    await add(
        prod,
        entry_with("shop"),
        entry_with("blog", version="v-good"),
        entry_with("held", version="v-held"),
        replace(entry_with("other", version="v-other"), config=stage),
    )
    await put(prod, "v1", REVOKED)
    await put(prod, "v-other", REVOKED)
    await put(prod, "v-held", replace(REVOKED, reason=HOLD))
    await put(prod, "v-good", replace(REVOKED, state=VerdictState.GOOD))

    async def revoked(config: str, *, hours: int = 0) -> frozenset[str]:
        return await prod.read(lambda tx: tx.revocations.list_revoked(ConfigID(config), now=NOW + hours * HOUR))

    assert await revoked("prod") == {"v1", "v-held"}
    assert await revoked("prod", hours=2) == {"v1"}  # the hold's list has ended
    assert await revoked("stage") == {"v-other"}
    assert await revoked("\x00") == frozenset()
    await prod.write(lambda tx: tx.entries.add_version(make_version(UID, id="v2")))
    assert await revoked("prod") == {"v-held"}


async def test_a_list_reads_back_as_written_and_keeps_its_content_when_none_is_given(store: SQLStore) -> None:
    await store.write(lambda tx: tx.revocations.put_crl(LIST, der=b"\x30\x00"))
    assert await store.read(lambda tx: tx.revocations.find_crl(LIST.url, LIST.issuer_id)) == LIST
    changed = StoredCRL(url=LIST.url, issuer_id=LIST.issuer_id, next_fetch_at=NOW, problem="gone")
    await store.write(lambda tx: tx.revocations.put_crl(changed))
    assert await store.read(lambda tx: tx.revocations.find_crl(LIST.url, LIST.issuer_id)) == changed
    assert await store.read(lambda tx: tx.revocations.load_crl(LIST.url, LIST.issuer_id)) == b"\x30\x00"
    await store.write(lambda tx: tx.revocations.put_crl(changed, der=b"\x30\x01"))
    assert await store.read(lambda tx: tx.revocations.load_crl(LIST.url, LIST.issuer_id)) == b"\x30\x01"


async def test_two_issuers_at_one_url_have_a_list_each(store: SQLStore) -> None:
    other = replace(LIST, issuer_id="ef" * 32, number=None)
    await store.write(lambda tx: tx.revocations.put_crl(LIST, der=b"1"))
    await store.write(lambda tx: tx.revocations.put_crl(other, der=b"2"))
    assert await store.read(lambda tx: tx.revocations.find_crl(LIST.url, other.issuer_id)) == other
    assert await store.read(lambda tx: tx.revocations.load_crl(LIST.url, LIST.issuer_id)) == b"1"


@pytest.mark.parametrize("url", ["http://x/\x00", "\ud800", "", "' OR 1=1 --"])
async def test_a_hostile_url_is_unknown(store: SQLStore, url: str) -> None:
    assert await store.read(lambda tx: tx.revocations.find_crl(url, "x")) is None
    assert await store.read(lambda tx: tx.revocations.load_crl(url, "x")) is None
    assert await store.read(lambda tx: tx.revocations.find_verdict(VersionID(url))) is None


async def test_lists_that_nobody_fetched_for_long_are_deleted(store: SQLStore) -> None:
    await store.write(lambda tx: tx.revocations.put_crl(LIST, der=b"1"))
    assert await store.write(lambda tx: tx.revocations.delete_crls_before(NOW + HOUR)) == 0
    assert await store.write(lambda tx: tx.revocations.delete_crls_before(NOW + 2 * HOUR)) == 1
    assert await store.read(lambda tx: tx.revocations.find_crl(LIST.url, LIST.issuer_id)) is None


async def test_one_worker_has_the_turn_of_the_look(store: SQLStore) -> None:
    claims = [
        await store.write(lambda tx: tx.schedules.claim_sweep("revocation", now=NOW, every=HOUR)) for _ in range(2)
    ]
    assert claims == [True, False]


async def test_what_is_due_and_what_is_revoked_are_found_by_their_indices(prod: SQLStore) -> None:
    await add(prod, *(entry_with(f"e{n}", version=f"v{n}") for n in range(MANY)))

    def put_all(tx: UnitOfWork) -> None:
        good = replace(REVOKED, state=VerdictState.GOOD)
        for n in range(MANY):
            is_soon = n % 1000 == 0
            verdict, look_at = (REVOKED, NOW) if is_soon else (good, NOW + HOUR)
            tx.revocations.put_verdict(VersionID(f"v{n}"), verdict, look_at=look_at)

    await prod.write(put_all)
    with prod.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    plan = await explain(prod, lambda tx: tx.revocations.list_due(now=NOW, limit=200))
    assert "ix_verdicts_look_at" in plan
    plan = await explain(prod, lambda tx: list(tx.revocations.list_revoked(PROD, now=NOW)))
    assert "ix_verdicts_revoked" in plan


async def explain(store: SQLStore, work: Callable[[UnitOfWork], Sequence[object]]) -> str:
    """Return the database's plan of the one query that the work makes."""
    seen: list[tuple[str, Any]] = []

    def note(*event: Any) -> None:
        seen.append((event[2], event[3]))

    with store.engine.connect() as connection:
        sa.event.listen(store.engine, "before_cursor_execute", note)
        assert await store.read(work)
        sa.event.remove(store.engine, "before_cursor_execute", note)
        ((statement, parameters),) = seen
        prefix = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        return "\n".join(str(row) for row in connection.exec_driver_sql(prefix + statement, parameters))


VERSION_OF_0004 = f"""
INSERT INTO configurations VALUES ('prod', '', 7, '{NOW.isoformat()}');
INSERT INTO entries (uid, config, id, side, source, le_auto_renew, le_auto_replace, identifiers, provider_links, crl,
    input_digest, uploaded, current_version, due_at)
    VALUES ('u1', 'prod', 'shop', 'SIDE', 'uploaded', TRUE, TRUE, '[]', '[]', '[]', '', '{NOW.isoformat()}', 'v1', NULL);
INSERT INTO versions (id, entry_uid, created_at, source, chain_pem, le_hash, issuer_name, subject, issuer, san,
    not_before, not_after, serial, cdp, fingerprint, public_key_sha256, key_algorithm, authority_key_id, is_ca)
    VALUES ('v1', 'u1', '{NOW.isoformat()}', 'SOURCE', 'PEM', '', '', 'CN=a', 'CN=b', '[]', '{NOW.isoformat()}',
    '{NOW.isoformat()}', '1', '[]', 'f', 'p', 'k', '', FALSE)
"""


@pytest.mark.parametrize(
    ("side", "source", "is_due"),
    [("server", "uploaded", True), ("clientCA", "uploaded", False), ("server", "built-in", False)],
)
async def test_a_certificate_from_before_this_version_is_due(
    empty_database_url: str, side: str, source: str, *, is_due: bool
) -> None:
    engine = make_engine(empty_database_url)
    config = Config()
    config.set_main_option("script_location", "certorbit.storage:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        for statement in VERSION_OF_0004.replace("SIDE", side).replace("SOURCE", source).split(";"):
            connection.exec_driver_sql(statement)
    migrate(engine)
    store = SQLStore(engine, clock=FakeClock(auto_advance=True), chance=FakeChance())
    assert await due(store) == ([("v1", "shop")] if is_due else [])
    await store.close()


def test_the_content_of_a_list_stands_last_in_its_row() -> None:
    assert list(crls.c)[-1].name == "der"

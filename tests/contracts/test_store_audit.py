"""The audit trail in the store, on SQLite and on PostgreSQL."""

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from certorbit.errors import BadInput, Broken
from certorbit.model.audit import Action, Actor, ActorKind, AuditEvent, AuditQuery, AuditRecord, ChainPoint
from certorbit.model.entry import Configuration
from certorbit.ports.audit import acting_as
from certorbit.ports.store import UnitOfWork
from certorbit.services import audit
from certorbit.storage import SQLStore, make_engine
from certorbit.storage.tables_audit import audit_chains, audit_records
from fakes.clock import FakeChance, FakeClock
from records import NOW, PROD, make_change

EVERYTHING = AuditQuery()


def make_store(url: str) -> SQLStore:
    return SQLStore(make_engine(url), clock=FakeClock(auto_advance=True), chance=FakeChance())


def event(name: str) -> AuditEvent:
    return AuditEvent(action=Action.TARGET_CHECKED, config="prod", objects=(name,), details={"n": 1, "ü": ["x", None]})


async def add(store: SQLStore, *names: str) -> None:
    for name in names:
        await store.write(lambda tx, name=name: tx.audit.add(event(name), now=NOW))  # type: ignore[misc]


async def list_all(store: SQLStore, query: AuditQuery = EVERYTHING) -> list[AuditRecord]:
    return list(await store.read(lambda tx: tx.audit.list(query, before=None, limit=1000)))


async def tamper(store: SQLStore, statement: sa.Executable) -> None:
    def run() -> None:
        with store.engine.begin() as connection:
            connection.execute(statement)

    await asyncio.to_thread(run)


async def test_a_record_is_in_the_transaction_of_what_it_is_about(store: SQLStore) -> None:
    def fail(tx: UnitOfWork) -> None:
        tx.audit.add(event("lost"), now=NOW)
        raise BadInput("no")

    with pytest.raises(BadInput):
        await store.write(fail)
    assert await list_all(store) == []


async def test_a_recorded_change_has_its_record(store: SQLStore) -> None:
    await store.write(lambda tx: tx.configurations.add(Configuration(PROD, "", 1, NOW)))
    with acting_as(Actor(ActorKind.API_KEY, "alice", key_id="k1", request_id="r1")):
        await store.write(
            lambda tx: tx.configurations.record(PROD, [make_change("www")], by="alice", now=NOW, operation="o1")
        )
    (record,) = await list_all(store)
    assert (record.actor.name, record.actor.request_id) == ("alice", "r1")
    assert (record.event.config, record.event.objects, record.event.operation) == ("prod", ("www",), "o1")
    assert record.at == NOW
    assert record.number is None


async def test_writers_at_once_keep_their_own_names(store: SQLStore) -> None:
    """They share transactions on SQLite, and threads on PostgreSQL."""

    async def write(number: int) -> None:
        with acting_as(Actor(ActorKind.API_KEY, f"key-{number}")):
            await store.write(lambda tx: tx.audit.add(event(f"entry-{number}"), now=NOW))

    await asyncio.gather(*(write(number) for number in range(40)))
    written = {(record.actor.name, record.event.objects[0]) for record in await list_all(store)}
    assert written == {(f"key-{number}", f"entry-{number}") for number in range(40)}


async def test_sealing_beside_ten_writers_gives_every_record_one_place(store: SQLStore) -> None:
    done = asyncio.Event()

    async def write(number: int) -> None:
        await add(store, *(f"{number}-{step}" for step in range(12)))

    async def seal() -> None:
        while not done.is_set():
            await audit.seal_waiting(store)
            await asyncio.sleep(0)

    sealers = [asyncio.create_task(seal()) for _ in range(3)]
    await asyncio.gather(*(write(number) for number in range(10)))
    done.set()
    await asyncio.gather(*sealers)
    state, wrong = await audit.verify(store)
    assert wrong is None
    assert state.head.number == 120
    records = await list_all(store)
    assert sorted(record.number or 0 for record in records) == list(range(1, 121))
    assert len({record.event.objects for record in records}) == 120


async def test_a_record_that_commits_late_follows_those_that_were_sealed_before(postgres_url: str) -> None:
    """PostgreSQL gives ids before commits; no order of commits may leave a record out."""
    store = make_store(postgres_url)
    with store.engine.connect() as late:
        low = late.execute(sa.text("SELECT nextval(pg_get_serial_sequence('audit_records', 'id'))")).scalar_one()
        await add(store, "first")
        await add(store, "second")
        columns = [column for column in audit_records.c if column.name not in {"id", "number", "previous_hash", "hash"}]
        copy = sa.select(sa.literal(low), *columns).where(audit_records.c.id == low + 1)
        late.execute(sa.insert(audit_records).from_select(["id", *(column.name for column in columns)], copy))
        assert await audit.seal_waiting(store) == 2
        assert await audit.seal_waiting(store) == 0
        await asyncio.to_thread(late.commit)
    state, wrong = await audit.verify(store)
    assert (wrong, state.head.number) == (None, 3)
    assert {record.place: record.number for record in await list_all(store)} == {low: 3, low + 1: 1, low + 2: 2}
    await store.close()


async def test_a_crash_between_commit_and_sealing_loses_nothing(database_url: str) -> None:
    child = Path(__file__).parent / "audit_child.py"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, child, database_url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("committed\n", -9), done.stderr
    store = make_store(database_url)
    try:
        assert [record.number for record in await list_all(store)] == [None]
        state, wrong = await audit.verify(store)
        assert (wrong, state.head.number) == (None, 1)
    finally:
        await store.close()


NUMBER = audit_records.c.number
TAMPERING: dict[str, tuple[sa.Executable, str, int]] = {
    "name": (sa.update(audit_records).where(NUMBER == 4).values(actor_name="bob"), "changed", 4),
    "time": (sa.update(audit_records).where(NUMBER == 4).values(at=NOW - timedelta(seconds=1)), "changed", 4),
    "details": (sa.update(audit_records).where(NUMBER == 4).values(details={"n": 2}), "changed", 4),
    "deleted": (sa.delete(audit_records).where(NUMBER.between(4, 5)), "gap", 4),
    "newest deleted": (sa.delete(audit_records).where(NUMBER == 8), "gap", 8),
    "oldest deleted": (sa.delete(audit_records).where(NUMBER == 1), "gap", 1),
    "all deleted": (sa.delete(audit_records), "gap", 1),
    "action": (sa.update(audit_records).where(NUMBER == 4).values(action="no.such"), "changed", 1),
    "kind": (sa.update(audit_records).where(NUMBER == 4).values(actor_kind=""), "changed", 1),
    "no JSON": (sa.text("UPDATE audit_records SET changes = '{' WHERE number = 4"), "changed", 1),
    "other JSON": (sa.text("UPDATE audit_records SET changes = '[7]' WHERE number = 4"), "changed", 1),
    "link": (sa.update(audit_records).where(NUMBER == 4).values(previous_hash="2" * 64), "changed", 4),
    "head set back": (
        sa.text("UPDATE audit_chains SET number = 5, hash = (SELECT hash FROM audit_records WHERE number = 5)"),
        "other-chain",
        6,
    ),
    "head changed": (sa.update(audit_chains).values(hash="1" * 64), "other-chain", 8),
}


async def test_tampering_is_found_where_it_is(store: SQLStore) -> None:
    await add(store, *"abcdefgh")
    _, wrong = await audit.verify(store)
    assert wrong is None
    with store.engine.connect() as connection:
        tables = [
            (table, connection.execute(sa.select(table)).mappings().all()) for table in (audit_records, audit_chains)
        ]
    found = {}
    for name, (statement, _, _) in TAMPERING.items():
        await tamper(store, statement)
        _, wrong = await audit.verify(store)
        assert wrong is not None, name
        found[name] = (wrong.kind.value, wrong.number)
        for table, rows in tables:
            await tamper(store, sa.delete(table))
            await tamper(store, sa.insert(table).values([dict(row) for row in rows]))
    assert found == {name: (kind, number) for name, (_, kind, number) in TAMPERING.items()}
    _, wrong = await audit.verify(store)
    assert wrong is None


async def test_nothing_is_linked_behind_a_head_that_was_set_back(store: SQLStore) -> None:
    await add(store, *"abcd")
    await audit.seal_waiting(store)
    await tamper(store, sa.update(audit_chains).values(number=2))
    await add(store, "e")
    with pytest.raises(Broken, match="has a record 4, but its chain ends with 2"):
        await audit.seal_waiting(store)
    _, wrong = await audit.verify(store)
    assert wrong is not None
    assert "its chain ends with 2" in wrong.message


async def test_two_rows_that_changed_places_are_found(store: SQLStore) -> None:
    await add(store, *"abcdefgh")
    await audit.seal_waiting(store)
    for old, new in ((3, 100), (6, 3), (100, 6)):
        await tamper(store, sa.update(audit_records).where(old == NUMBER).values(number=new))
    _, wrong = await audit.verify(store)
    assert wrong is not None
    assert (wrong.kind, wrong.number) == ("reordered", 3)


async def test_expired_records_go_and_the_chain_holds_from_there_on(store: SQLStore) -> None:
    await add(store, *"abcde")
    await audit.seal_waiting(store)
    old = await audit.read_state(store)
    later = NOW + timedelta(days=30)
    await store.write(lambda tx: tx.audit.add(event("new"), now=later))
    await audit.seal_waiting(store)
    assert await audit.expire(store, days=0, now=later) == 0
    assert await audit.expire(store, days=30, now=later) == 0
    assert await audit.expire(store, days=29, now=later) == 5
    state, wrong = await audit.verify(store, pins=[old.head])
    assert (wrong, state.anchor, state.head.number) == (None, old.head, 7)
    assert [record.event.action for record in await list_all(store)] == [Action.AUDIT_EXPIRED, Action.TARGET_CHECKED]
    _, wrong = await audit.verify(store, pins=[ChainPoint(2, "0" * 64)])
    assert wrong is not None
    assert "has expired" in wrong.message


async def test_deleting_the_beginning_by_hand_is_no_expiry(store: SQLStore) -> None:
    await add(store, *"abcdefgh")
    await audit.seal_waiting(store)
    third = next(record for record in await list_all(store) if record.number == 3)
    await tamper(store, sa.delete(audit_records).where(audit_records.c.number <= 3))
    await tamper(store, sa.update(audit_chains).values(anchor_number=3, anchor_hash=third.hash))
    _, wrong = await audit.verify(store)
    assert wrong is not None
    assert "no record says that they expired" in wrong.message


async def test_unsealed_and_newest_records_never_expire(store: SQLStore) -> None:
    await add(store, "a", "b")
    await audit.seal_waiting(store)
    await add(store, "c")
    much_later = NOW + timedelta(days=1000)
    assert await audit.expire(store, days=1, now=much_later) == 1
    _, wrong = await audit.verify(store)
    assert wrong is None
    assert {"b", "c"} <= {name for record in await list_all(store) for name in record.event.objects}


QUERIES: list[tuple[AuditQuery, set[str]]] = [
    (AuditQuery(config="prod"), {"a%b", 'quote"d', "plain"}),
    (AuditQuery(config="other"), set()),
    (AuditQuery(who="alice"), {"plain"}),
    (AuditQuery(who="k1"), {"plain"}),
    (AuditQuery(action="target.checked"), {"a%b", 'quote"d', "plain"}),
    (AuditQuery(action="key.exported"), set()),
    (AuditQuery(object="a%b"), {"a%b"}),
    (AuditQuery(object="a%"), set()),
    (AuditQuery(object="lai"), set()),
    (AuditQuery(object='quote"d'), {'quote"d'}),
    (AuditQuery(object='"'), set()),
    (AuditQuery(object="nul\x00"), set()),
    (AuditQuery(since=NOW + timedelta(seconds=1)), {"plain"}),
    (AuditQuery(until=NOW + timedelta(seconds=1)), {"a%b", 'quote"d'}),
]


async def test_records_are_found_by_what_is_asked(store: SQLStore) -> None:
    await add(store, "a%b", 'quote"d')
    with acting_as(Actor(ActorKind.API_KEY, "alice", key_id="k1")):
        await store.write(lambda tx: tx.audit.add(event("plain"), now=NOW + timedelta(seconds=1)))
    for query, found in QUERIES:
        assert {record.event.objects[0] for record in await list_all(store, query)} == found, query
        count = await store.read(lambda tx, query=query: tx.audit.count(query))  # type: ignore[misc]
        assert count == len(found), query


async def test_pages_follow_each_other_while_records_come(store: SQLStore) -> None:
    await add(store, *"abcde")
    seen, cursor = [], None
    while True:
        page, cursor, total = await store.read(
            lambda tx, cursor=cursor: audit.list_records(tx, EVERYTHING, cursor=cursor, limit=2)  # type: ignore[misc]
        )
        seen += [record.event.objects[0] for record in page]
        if cursor is None:
            break
        await add(store, "later")
    assert seen == list("edcba")
    assert total == 7

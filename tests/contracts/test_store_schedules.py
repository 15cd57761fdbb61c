"""`ports.store.Schedules`, and an entry's versions, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from certorbit.errors import LostRace
from certorbit.model.entry import Entry, EntryUID, Source, VersionID
from certorbit.model.renewal import RenewalInfo
from certorbit.model.schedule import Schedule
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore, make_engine
from certorbit.storage.tables import renewals
from fakes.clock import FakeChance, FakeClock
from records import NOW, make_configuration, make_entry, make_version

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
INFO = RenewalInfo(
    start=NOW + HOUR,
    end=NOW + 2 * HOUR,
    explanation_url="https://ca.example.test/why?é",
    chosen_at=NOW + 1.5 * HOUR,
    checked_at=NOW,
    next_check_at=NOW + 6 * HOUR,
    problem="",
    seen_at=NOW - HOUR,
    failures=2,
)
MANY = 5_000


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    return store


@pytest.fixture
async def other_store(database_url: str) -> AsyncIterator[SQLStore]:
    """Another process's store on the same database."""
    store = SQLStore(make_engine(database_url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    yield store
    await store.close()


def make_schedule(uid: str, *, look_at: datetime | None = NOW) -> Schedule:
    return Schedule(
        entry_uid=EntryUID(uid),
        look_at=look_at,
        renew_at=NOW + HOUR,
        reason="ari",
        info=INFO,
        paused=True,
        issuer="second",
        predecessor_not_before=NOW - 24 * HOUR,
    )


async def add(store: SQLStore, *uids: str) -> dict[str, Entry]:
    entries = {uid: make_entry(f"e{number}", uid=uid) for number, uid in enumerate(uids)}

    def work(tx: UnitOfWork) -> None:
        for entry in entries.values():
            tx.entries.add(entry)

    await store.write(work)
    return entries


async def find_one(store: SQLStore, uid: str) -> Schedule:
    found = await find(store, uid)
    assert found is not None
    return found


async def put(store: SQLStore, *schedules: Schedule) -> None:
    def work(tx: UnitOfWork) -> None:
        for schedule in schedules:
            tx.schedules.put(schedule)

    await store.write(work)


async def find(store: SQLStore, uid: str) -> Schedule | None:
    return await store.read(lambda tx: tx.schedules.find(EntryUID(uid)))


async def list_due(store: SQLStore, *, now: datetime = NOW, limit: int = 100) -> list[str]:
    found = await store.read(lambda tx: tx.schedules.list_due(now=now, limit=limit))
    return [entry.uid for entry, _ in found]


async def test_an_entry_that_nothing_was_decided_for_has_a_blank_schedule(prod: SQLStore) -> None:
    await add(prod, "a")
    assert await find(prod, "a") == Schedule(entry_uid=EntryUID("a"), look_at=None)


@pytest.mark.parametrize("uid", ["nobody", "a\x00", "\ud800", ""])
async def test_an_unknown_entry_has_no_schedule(prod: SQLStore, uid: str) -> None:
    await add(prod, "a")
    assert await find(prod, uid) is None


async def test_a_schedule_reads_back_as_written(prod: SQLStore) -> None:
    await add(prod, "a", "b")
    await put(prod, make_schedule("a"))
    assert await find(prod, "a") == make_schedule("a")
    assert await find(prod, "b") == Schedule(entry_uid=EntryUID("b"), look_at=None)


async def test_a_second_put_overwrites_everything(prod: SQLStore) -> None:
    await add(prod, "a")
    await put(prod, make_schedule("a"))
    blank = Schedule(entry_uid=EntryUID("a"), look_at=NOW + HOUR)
    await put(prod, blank)
    assert await find(prod, "a") == blank


async def test_a_window_that_was_never_known_reads_back(prod: SQLStore) -> None:
    await add(prod, "a")
    unknown = RenewalInfo(None, None, "", None, NOW, NOW + HOUR, "no answer\x00 at all", failures=1)
    await put(prod, replace(make_schedule("a"), info=unknown))
    found = await find(prod, "a")
    assert found is not None
    assert found.info == unknown


async def test_look_at_moves_the_timer_and_nothing_else(prod: SQLStore) -> None:
    await add(prod, "a")
    await put(prod, make_schedule("a"))
    await prod.write(lambda tx: tx.schedules.look_at(EntryUID("a"), NOW + HOUR))
    assert await find(prod, "a") == make_schedule("a", look_at=NOW + HOUR)
    await prod.write(lambda tx: tx.schedules.look_at(EntryUID("a"), None))
    assert await find(prod, "a") == make_schedule("a", look_at=None)


async def test_the_timer_works_before_anything_was_decided(prod: SQLStore) -> None:
    await add(prod, "a")
    await prod.write(lambda tx: tx.schedules.look_at(EntryUID("a"), NOW))
    assert await list_due(prod) == ["a"]


async def test_what_is_due_comes_longest_due_first_and_in_pages(prod: SQLStore) -> None:
    await add(prod, "a", "b", "c", "d", "e")
    at = {"a": NOW, "b": NOW - 2 * HOUR, "c": NOW + timedelta(microseconds=1), "d": None, "e": NOW - HOUR}
    await put(prod, *(make_schedule(uid, look_at=look_at) for uid, look_at in at.items()))
    assert await list_due(prod) == ["b", "e", "a"]
    assert await list_due(prod, limit=2) == ["b", "e"]
    assert await list_due(prod, now=NOW - 3 * HOUR) == []


async def test_what_is_due_comes_with_its_entry_and_schedule(prod: SQLStore) -> None:
    entries = await add(prod, "a")
    await put(prod, make_schedule("a"))
    found = await prod.read(lambda tx: tx.schedules.list_due(now=NOW, limit=10))
    assert list(found) == [(entries["a"], make_schedule("a"))]


async def test_what_is_planned_comes_by_its_time(prod: SQLStore) -> None:
    await add(prod, "a", "b", "c", "d")
    renew_at = {"a": NOW + HOUR, "b": NOW, "c": NOW + 2 * HOUR, "d": None}
    await put(prod, *(replace(make_schedule(uid), renew_at=instant) for uid, instant in renew_at.items()))
    found = await prod.read(lambda tx: tx.schedules.list_planned(until=NOW + HOUR, limit=10))
    assert [entry.uid for entry, _ in found] == ["b", "a"]
    first = await prod.read(lambda tx: tx.schedules.list_planned(until=NOW + HOUR, limit=1))
    assert [(entry.uid, schedule.renew_at) for entry, schedule in first] == [("b", NOW)]


async def test_a_deleted_entry_takes_its_schedule_along(prod: SQLStore) -> None:
    await add(prod, "a", "b")
    await put(prod, make_schedule("a"), make_schedule("b"))
    await prod.write(lambda tx: tx.entries.delete(EntryUID("a")))
    assert await find(prod, "a") is None
    assert await list_due(prod) == ["b"]
    with prod.engine.connect() as connection:
        assert connection.scalars(sa.select(renewals.c.entry_uid)).all() == ["b"]


async def test_looking_at_an_entry_that_is_gone_is_harmless(prod: SQLStore) -> None:
    await prod.write(lambda tx: tx.schedules.look_at(EntryUID("gone"), NOW))
    assert await list_due(prod) == []


async def test_putting_the_schedule_of_an_entry_that_is_gone_is_harmless(prod: SQLStore) -> None:
    await put(prod, make_schedule("gone"))
    assert await find(prod, "gone") is None


async def test_the_sweep_is_claimed_once_per_period(store: SQLStore) -> None:
    async def claim(now: datetime) -> bool:
        return await store.write(lambda tx: tx.schedules.claim_sweep("renewal", now=now, every=MINUTE))

    assert await claim(NOW)
    assert not await claim(NOW)
    assert not await claim(NOW + MINUTE - timedelta(microseconds=1))
    assert await claim(NOW + MINUTE)
    assert not await store.write(lambda tx: tx.schedules.claim_sweep("nobody", now=NOW, every=MINUTE))


async def test_a_turn_that_a_longer_period_planned_comes_within_the_present_one(store: SQLStore) -> None:
    async def claim(now: datetime, every: timedelta) -> bool:
        return await store.write(lambda tx: tx.schedules.claim_sweep("renewal", now=now, every=every))

    assert await claim(NOW, 24 * HOUR)
    assert not await claim(NOW + MINUTE, HOUR), "it was claimed a minute ago"
    assert not await claim(NOW + HOUR, 24 * HOUR), "nor does a longer period put it off again"
    assert await claim(NOW + MINUTE + HOUR, HOUR)
    assert not await claim(NOW + 2 * HOUR, HOUR)


async def test_what_is_idle_is_woken_and_nothing_else(prod: SQLStore) -> None:
    await add(prod, "idle", "fresh", "planned", "never", "due")
    idle = replace(make_schedule("idle", look_at=NOW + HOUR), renew_at=None, info=None)
    await put(
        prod,
        idle,
        make_schedule("planned", look_at=NOW + HOUR),
        replace(make_schedule("never", look_at=None), renew_at=None),
        replace(make_schedule("due", look_at=NOW - HOUR), renew_at=None),
    )
    await prod.write(lambda tx: tx.schedules.look_at(EntryUID("fresh"), NOW + HOUR))
    assert await prod.write(lambda tx: tx.schedules.wake_idle(now=NOW)) == 2
    looks = {uid: (await find_one(prod, uid)).look_at for uid in ("idle", "fresh", "planned", "never", "due")}
    assert looks == {"idle": NOW, "fresh": NOW, "planned": NOW + HOUR, "never": None, "due": NOW - HOUR}
    assert await find(prod, "idle") == replace(idle, look_at=NOW), "the rest of it stays"


async def test_what_has_no_plan_is_listed_by_its_end(prod: SQLStore) -> None:
    entries = await add(prod, "late", "early", "planned", "never")
    for uid, days in (("late", 20), ("early", 10)):
        version = entries[uid].current
        assert version is not None
        newer = replace(
            version, id=VersionID(f"v-{uid}"), facts=replace(version.facts, not_after=NOW + days * 24 * HOUR)
        )
        await prod.write(lambda tx, v=newer: tx.entries.add_version(v))  # type: ignore[misc]
    await put(
        prod,
        replace(make_schedule("late"), renew_at=None),
        make_schedule("planned"),
        replace(make_schedule("never", look_at=None), renew_at=None),
    )
    await prod.write(lambda tx: tx.schedules.look_at(EntryUID("early"), NOW))
    found = await prod.read(lambda tx: tx.schedules.list_unplanned(limit=10))
    assert [(entry.uid, schedule.renew_at) for entry, schedule in found] == [("early", None), ("late", None)]
    assert [entry.uid for entry, _ in await prod.read(lambda tx: tx.schedules.list_unplanned(limit=1))] == ["early"]


async def test_makers_are_counted_by_configuration_and_choice(prod: SQLStore) -> None:
    entries = {uid: make_entry(uid, uid=uid) for uid in ("a", "b", "chosen", "uploaded", "off")}
    for uid, entry in entries.items():
        assert entry.current is not None
        source = Source.UPLOADED if uid == "uploaded" else Source.GENERATED
        version = replace(entry.current, source=source, issuer_name="le")
        made = replace(entry, current=version, le_auto_renew=uid != "off")
        await prod.write(lambda tx, e=made: tx.entries.add(e))  # type: ignore[misc]
    await put(prod, replace(make_schedule("chosen"), issuer="lab"), replace(make_schedule("b"), issuer=""))
    found = await prod.read(lambda tx: tx.schedules.count_makers())
    assert {(maker.config, maker.made_by, maker.chosen): maker.certificates for maker in found} == {
        ("prod", "le", ""): 2,
        ("prod", "le", "lab"): 1,
    }


async def test_of_many_that_claim_the_sweep_at_once_one_gets_it(store: SQLStore, other_store: SQLStore) -> None:
    for period in range(5):
        now = NOW + period * MINUTE
        claims = [
            chosen.write(lambda tx, n=now: tx.schedules.claim_sweep("renewal", now=n, every=MINUTE))  # type: ignore[misc]
            for chosen in (store, other_store) * 4
        ]
        assert sum(await asyncio.gather(*claims)) == 1


async def test_versions_are_listed_newest_first_with_their_material(prod: SQLStore) -> None:
    entries = await add(prod, "a", "b")
    later = [make_version("a", id=f"v{n}", created_at=NOW + n * HOUR, sealed_key=b"%d" % n) for n in (1, 2)]
    for version in later:
        await prod.write(lambda tx, v=version: tx.entries.add_version(v))  # type: ignore[misc]
    found = await prod.read(lambda tx: tx.entries.list_versions(EntryUID("a")))
    assert list(found) == [later[1], later[0], entries["a"].current]
    for uid in ("nobody", "a\x00", "\ud800"):
        assert not await prod.read(lambda tx, u=uid: tx.entries.list_versions(EntryUID(u)))  # type: ignore[misc]


async def test_an_older_version_becomes_the_current_one_and_the_newer_one_stays(prod: SQLStore) -> None:
    entries = await add(prod, "a", "b")
    first = entries["a"].current
    assert first is not None
    newer = make_version("a", id="newer", created_at=NOW + HOUR)
    await prod.write(lambda tx: tx.entries.add_version(newer))
    await prod.write(lambda tx: tx.entries.set_current(EntryUID("a"), first.id))
    found = await prod.read(lambda tx: tx.entries.get_by_uid(EntryUID("a")))
    assert found == entries["a"]
    assert await prod.read(lambda tx: tx.entries.list_versions(EntryUID("a"))) == [newer, first]
    assert await prod.read(lambda tx: tx.entries.get_by_uid(EntryUID("b"))) == entries["b"]


async def test_the_current_version_of_an_entry_that_is_gone_is_a_lost_race(prod: SQLStore) -> None:
    with pytest.raises(LostRace, match="deleted meanwhile"):
        await prod.write(lambda tx: tx.entries.set_current(EntryUID("gone"), VersionID("v")))


# --- no scan -----------------------------------------------------------------


async def fill(store: SQLStore) -> None:
    """Many entries, of which one in a thousand is due or planned soon."""
    uids = [f"m{number:05}" for number in range(MANY)]
    await add(store, *uids)
    soon = [number % 1000 == 0 for number in range(MANY)]
    await put(
        store,
        *(
            replace(
                make_schedule(uid, look_at=NOW if is_soon else NOW + 9 * HOUR),
                renew_at=NOW + (1 if is_soon else 9) * HOUR,
            )
            for uid, is_soon in zip(uids, soon, strict=True)
        ),
    )
    with store.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")


async def explain(store: SQLStore, work: Callable[[UnitOfWork], Sequence[object]]) -> str:
    """Return the database's plan of the one query that the work makes."""
    seen: list[tuple[str, Any]] = []

    def note(*event: Any) -> None:
        seen.append((event[2], event[3]))

    with store.engine.connect() as connection:
        sa.event.listen(store.engine, "before_cursor_execute", note)
        assert await store.read(work)
        sa.event.remove(store.engine, "before_cursor_execute", note)
        statement, parameters = next(pair for pair in seen if "SELECT" in pair[0])
        prefix = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        rows = connection.exec_driver_sql(prefix + statement, parameters)
        return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize(
    ("index", "work"),
    [
        ("ix_entries_due_at", lambda tx: tx.schedules.list_due(now=NOW, limit=200)),
        ("ix_renewals_renew_at", lambda tx: tx.schedules.list_planned(until=NOW + HOUR, limit=200)),
    ],
    ids=["due", "planned"],
)
async def test_a_page_is_found_by_an_index_without_a_scan_or_a_sort(
    prod: SQLStore, index: str, work: Callable[[UnitOfWork], Sequence[object]]
) -> None:
    await fill(prod)
    plan = await explain(prod, work)
    assert index in plan
    for word in ("SCAN", "Seq Scan", "TEMP B-TREE", "Sort"):
        assert word not in plan, plan


async def test_the_plan_of_a_scan_would_be_seen(prod: SQLStore) -> None:
    await fill(prod)
    with prod.engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_entries_due_at")
    plan = await explain(prod, lambda tx: tx.schedules.list_due(now=NOW, limit=200))
    assert "SCAN" in plan or "Seq Scan" in plan

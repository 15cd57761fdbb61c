"""`ports.store.Store` on SQLite and on PostgreSQL: certificates, configurations, operations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from certorbit.errors import BadInput, Broken, LostRace
from certorbit.model.entry import ConfigID, Entry, EntryID, EntryUID, Side
from certorbit.model.operation import Operation, OperationID, OperationState
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore
from records import (
    NOW,
    PROD,
    make_configuration,
    make_entry,
    make_operation,
    make_problem,
    make_version,
)

HOSTILE = ("shop\x00", "\ud800", "", "' OR 1=1 --", "x" * 100_000)


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    return store


async def add_entries(store: SQLStore, *entries: Entry) -> None:
    def work(tx: UnitOfWork) -> None:
        for entry in entries:
            tx.entries.add(entry)

    await store.write(work)


async def add_operations(store: SQLStore, *operations: Operation) -> None:
    def work(tx: UnitOfWork) -> None:
        for operation in operations:
            tx.operations.add(operation)

    await store.write(work)


async def test_a_configuration_reads_back_as_written(store: SQLStore) -> None:
    written = make_configuration("stage", description="für Tests", version=2**40)
    await store.write(lambda tx: tx.configurations.add(written))
    assert await store.read(lambda tx: tx.configurations.find(ConfigID("stage"))) == written


async def test_configurations_are_listed_by_id(store: SQLStore) -> None:
    def work(tx: UnitOfWork) -> None:
        for name in ("b", "a-b", "aB", "a"):
            tx.configurations.add(make_configuration(name))

    await store.write(work)
    found = await store.read(lambda tx: tx.configurations.list())
    assert [configuration.id for configuration in found] == ["a", "a-b", "aB", "b"]


async def test_a_second_configuration_of_that_name_loses_the_race(prod: SQLStore) -> None:
    with pytest.raises(LostRace):
        await prod.write(lambda tx: tx.configurations.add(make_configuration()))


async def test_an_entry_reads_back_as_written(prod: SQLStore) -> None:
    written = make_entry("shop")
    await add_entries(prod, written)
    assert await prod.read(lambda tx: tx.entries.find(PROD, written.id)) == written
    assert await prod.read(lambda tx: tx.entries.get_by_uid(written.uid)) == written


async def test_an_entry_without_a_version_and_a_version_without_a_key_read_back(prod: SQLStore) -> None:
    bare = make_entry("bare", with_version=False)
    bundle = make_entry("bundle", uid="u-bundle")
    bundle = replace(bundle, current=make_version("u-bundle", sealed_key=None), crl=("-----BEGIN X509 CRL-----\n",))
    await add_entries(prod, bare, bundle)
    assert await prod.read(lambda tx: tx.entries.list(PROD)) == [bare, bundle]


async def test_instants_read_back_in_utc_to_the_microsecond(prod: SQLStore) -> None:
    berlin = datetime(2026, 7, 1, 1, 30, 0, 1, tzinfo=timezone(timedelta(hours=2)))
    await add_entries(prod, replace(make_entry("shop"), uploaded=berlin))
    found = await prod.read(lambda tx: tx.entries.find(PROD, EntryID("shop")))
    assert found is not None
    assert found.uploaded == berlin
    assert found.uploaded.utcoffset() == timedelta(0)
    assert found.uploaded.isoformat() == "2026-06-30T23:30:00.000001+00:00"


async def test_an_instant_without_a_zone_is_refused(prod: SQLStore) -> None:
    with pytest.raises(Broken, match="has no time zone"):
        await add_entries(prod, replace(make_entry("shop"), uploaded=datetime(2026, 1, 1)))


async def test_the_placeholder_is_listed_first_then_by_id(prod: SQLStore) -> None:
    names = ["zulu", "a-b", "placeholder", "ab", "a"]
    await add_entries(prod, *(make_entry(name) for name in names))
    found = await prod.read(lambda tx: tx.entries.list(PROD))
    assert [entry.id for entry in found] == ["placeholder", "a", "a-b", "ab", "zulu"]


async def test_entries_of_other_configurations_are_not_listed(prod: SQLStore) -> None:
    await prod.write(lambda tx: tx.configurations.add(make_configuration("stage")))
    await add_entries(prod, make_entry("shop"), make_entry("shop", config="stage"))
    assert len(await prod.read(lambda tx: tx.entries.list(ConfigID("stage")))) == 1
    assert await prod.read(lambda tx: tx.entries.list(ConfigID("nowhere"))) == []


async def test_a_second_entry_of_that_id_loses_the_race(prod: SQLStore) -> None:
    await add_entries(prod, make_entry("shop"))
    with pytest.raises(LostRace):
        await add_entries(prod, make_entry("shop"))


async def test_an_entry_in_an_unknown_configuration_is_a_bug(store: SQLStore) -> None:
    with pytest.raises(Broken):
        await add_entries(store, make_entry("shop"))


async def test_a_version_of_another_entry_is_refused(prod: SQLStore) -> None:
    with pytest.raises(Broken, match="belongs to another entry"):
        await add_entries(prod, replace(make_entry("shop"), current=make_version("other")))


async def test_flags_change_and_nothing_else_does(prod: SQLStore) -> None:
    entry, other = make_entry("shop"), make_entry("other")
    await add_entries(prod, entry, other)
    await prod.write(lambda tx: tx.entries.update_flags(entry.uid, le_auto_renew=False, le_auto_replace=True))
    assert await prod.read(lambda tx: tx.entries.list(PROD)) == [
        other,
        replace(entry, le_auto_renew=False, le_auto_replace=True),
    ]


async def test_a_new_version_becomes_the_current_one(prod: SQLStore) -> None:
    entry = make_entry("shop")
    await add_entries(prod, entry)
    version = make_version(entry.uid, created_at=NOW + timedelta(days=60))
    await prod.write(lambda tx: tx.entries.add_version(version))
    assert await prod.read(lambda tx: tx.entries.get_by_uid(entry.uid)) == replace(entry, current=version)


async def test_bundles_are_listed_and_get_newer_lists(prod: SQLStore) -> None:
    bundle, backend = make_entry("a", uid="1", side=Side.CLIENT_CA), make_entry("b", uid="2", side=Side.BACKEND_CA)
    await add_entries(prod, bundle, backend, make_entry("shop"))
    assert [entry.id for entry in await prod.read(lambda tx: tx.entries.list_bundles())] == ["a", "b"]
    await prod.write(lambda tx: tx.entries.set_crl(bundle.uid, ["one\n", "two\n"]))
    found = await prod.read(lambda tx: tx.entries.list_bundles())
    assert [entry.crl for entry in found] == [("one\n", "two\n"), backend.crl]


@pytest.mark.parametrize("change", ["flags", "version", "lists"])
async def test_changing_an_entry_that_was_deleted_loses_the_race(prod: SQLStore, change: str) -> None:
    def work(tx: UnitOfWork) -> None:
        if change == "flags":
            tx.entries.update_flags(EntryUID("gone"), le_auto_renew=True, le_auto_replace=True)
        elif change == "lists":
            tx.entries.set_crl(EntryUID("gone"), [])
        else:
            tx.entries.add_version(make_version("gone"))

    with pytest.raises(LostRace, match="'gone' was deleted meanwhile"):
        await prod.write(work)


async def test_a_deleted_entry_takes_its_versions_along_and_leaves_its_operations(prod: SQLStore) -> None:
    entry = make_entry("shop")
    operation = make_operation(entry_uid=entry.uid)
    await add_entries(prod, entry)
    await add_operations(prod, operation)
    await prod.write(lambda tx: tx.entries.delete(entry.uid))
    await prod.write(lambda tx: tx.entries.delete(entry.uid))  # harmless
    assert await prod.read(lambda tx: tx.entries.find(PROD, entry.id)) is None
    assert await prod.read(lambda tx: tx.operations.find(operation.id)) == operation
    # The version's id is free again only if its row went.
    assert entry.current is not None
    await add_entries(prod, entry)
    assert await prod.read(lambda tx: tx.entries.get_by_uid(entry.uid)) == entry


@pytest.mark.parametrize("text", HOSTILE, ids=["nul", "surrogate", "empty", "injection", "long"])
async def test_a_hostile_id_is_simply_unknown(prod: SQLStore, text: str) -> None:
    def look(tx: UnitOfWork) -> list[object]:
        return [
            tx.configurations.find(ConfigID(text)),
            tx.entries.find(PROD, EntryID(text)),
            tx.entries.find(ConfigID(text), EntryID("shop")),
            tx.entries.get_by_uid(EntryUID(text)),
            tx.operations.find(OperationID(text)),
            tx.orders.find(OperationID(text), 1),
            tx.accounts.find(text, "acme"),
            tx.accounts.find("dir", text),
            tx.challenges.find(text),
            tx.api_keys.find(text),  # type: ignore[arg-type]
            tx.api_keys.find_by_digest(text),
            tx.authorities.find_issued(text),
        ]

    def look_in_lists(tx: UnitOfWork) -> list[object]:
        return [
            list(tx.entries.list(ConfigID(text))),
            list(tx.operations.list(config=ConfigID(text))),
            list(tx.operations.list(entry=EntryID(text))),
            list(tx.operations.list(before=(NOW, OperationID(text)))),
            tx.operations.count(config=ConfigID(text)),
            tx.operations.list_states([OperationID(text)]),
            tx.orders.known_urls([text]),
        ]

    def lock(tx: UnitOfWork) -> list[object]:
        tx.challenges.delete_all([text])
        return [tx.operations.lock(OperationID(text)), tx.operations.lock_unfinished(EntryUID(text))]

    assert not any(await prod.read(look))
    assert not any(await prod.read(look_in_lists))
    assert not any(await prod.write(lock))


@pytest.mark.parametrize("text", HOSTILE[:2], ids=["nul", "surrogate"])
async def test_text_that_no_database_takes_is_bad_input_on_both(store: SQLStore, text: str) -> None:
    with pytest.raises(BadInput, match="NUL character or half of a surrogate pair"):
        await store.write(lambda tx: tx.configurations.add(make_configuration("x", description=text)))


async def test_an_operation_reads_back_as_written(store: SQLStore) -> None:
    written = make_operation(problem=make_problem())
    await add_operations(store, written)
    assert await store.read(lambda tx: tx.operations.find(written.id)) == written
    assert await store.write(lambda tx: tx.operations.lock(written.id)) == written


async def test_an_update_writes_every_field_that_can_change(store: SQLStore) -> None:
    operation, other = make_operation(), make_operation()
    await add_operations(store, operation, other)
    changed = replace(
        operation,
        state=OperationState.WAITING,
        attempt=2,
        promised=True,
        updated_at=NOW + timedelta(seconds=1),
        finished_at=NOW + timedelta(seconds=2),
        next_attempt_at=NOW + timedelta(seconds=3),
        issuer_name="acme",
        problem=make_problem(),
        overtaken=(1,),
    )
    await store.write(lambda tx: tx.operations.update(changed))
    assert await store.read(lambda tx: tx.operations.find(operation.id)) == changed
    assert await store.read(lambda tx: tx.operations.find(other.id)) == other


async def test_updating_an_unknown_operation_is_a_bug(store: SQLStore) -> None:
    with pytest.raises(Broken, match="is not in the store"):
        await store.write(lambda tx: tx.operations.update(make_operation("nowhere")))


@pytest.mark.parametrize("state", OperationState)
async def test_only_an_unfinished_operation_of_the_entry_is_found(store: SQLStore, state: OperationState) -> None:
    operation = make_operation(entry_uid="u1", state=state)
    await add_operations(store, operation, make_operation(entry_uid="u2"))
    found = await store.write(lambda tx: tx.operations.lock_unfinished(EntryUID("u1")))
    assert found == (None if state.is_final else operation)


async def test_an_entry_has_at_most_one_unfinished_operation(store: SQLStore) -> None:
    finished = [make_operation(entry_uid="u1", state=OperationState.SUCCEEDED) for _ in range(2)]
    await add_operations(store, *finished, make_operation(entry_uid="u1"))
    with pytest.raises(LostRace):
        await add_operations(store, make_operation(entry_uid="u1", state=OperationState.WAITING))


async def test_states_are_listed_for_those_that_exist(store: SQLStore) -> None:
    running, failed = make_operation(state=OperationState.RUNNING), make_operation(state=OperationState.FAILED)
    await add_operations(store, running, failed, make_operation())
    wanted = [running.id, failed.id, OperationID("nowhere")]
    assert await store.read(lambda tx: tx.operations.list_states(wanted)) == {
        running.id: OperationState.RUNNING,
        failed.id: OperationState.FAILED,
    }
    assert await store.read(lambda tx: tx.operations.list_states([])) == {}


async def test_operations_are_paged_newest_first_without_gaps(store: SQLStore) -> None:
    # Three share an instant: the id decides between them.
    instants = [NOW, NOW, NOW, NOW + timedelta(microseconds=1), NOW - timedelta(days=1)]
    operations = [make_operation(f"o{number}", created_at=at) for number, at in enumerate(instants)]
    await add_operations(store, *operations)
    seen: list[str] = []
    before: tuple[datetime, OperationID] | None = None
    while page := await store.read(lambda tx, before=before: tx.operations.list(before=before, limit=2)):  # type: ignore[misc]
        seen += [operation.id for operation in page]
        before = (page[-1].created_at, page[-1].id)
    assert seen == ["o3", "o2", "o1", "o0", "o4"]


async def test_operations_are_filtered_and_counted(store: SQLStore) -> None:
    await add_operations(
        store,
        make_operation("o1", entry_id="shop", state=OperationState.FAILED),
        make_operation("o2", entry_id="shop"),
        make_operation("o3", entry_id="blog"),
        make_operation("o4", entry_id="shop", config="stage"),
    )
    filters: list[tuple[dict[str, object], list[str]]] = [
        ({}, ["o4", "o3", "o2", "o1"]),
        ({"config": "prod"}, ["o3", "o2", "o1"]),
        ({"entry": "shop"}, ["o4", "o2", "o1"]),
        ({"state": OperationState.FAILED}, ["o1"]),
        ({"config": "prod", "entry": "shop", "state": OperationState.QUEUED}, ["o2"]),
    ]
    for chosen, expected in filters:
        found = await store.read(lambda tx, chosen=chosen: tx.operations.list(**chosen))  # type: ignore[misc]
        assert [operation.id for operation in found] == expected
        assert await store.read(lambda tx, chosen=chosen: tx.operations.count(**chosen)) == len(expected)  # type: ignore[misc]


def test_the_sample_instant_has_microseconds() -> None:
    assert NOW.microsecond
    assert NOW.tzinfo is UTC

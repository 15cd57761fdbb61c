"""`ports.store.Configurations`, their versions and changes, and the lanes of operations; both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from certorbit.errors import Broken, LostRace
from certorbit.model.change import Change, ChangeKind, ConfigurationVersion
from certorbit.model.entry import ConfigID, EntryUID
from certorbit.model.operation import Lane, Operation, OperationKind, OperationState
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore
from records import NOW, PROD, make_change, make_configuration, make_operation

LATER = NOW + timedelta(days=1)
ATTACHED = Change(ChangeKind.ATTACHMENT, "edge/web/https:443 shop", {"default": False}, {"default": True})


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    await store.write(lambda tx: tx.configurations.add(make_configuration("stage", version=7)))
    return store


async def record(store: SQLStore, *changes: Change, config: ConfigID = PROD) -> int:
    return await store.write(lambda tx: tx.configurations.record(config, changes, by="ci\u00e9", now=LATER))


async def test_a_record_counts_and_dates_the_change(prod: SQLStore) -> None:
    assert await record(prod, make_change()) == 2
    assert await prod.read(lambda tx: tx.configurations.find(PROD)) == replace(
        make_configuration(), version=2, date=LATER
    )
    stage = ConfigID("stage")
    assert await prod.read(lambda tx: tx.configurations.find(stage)) == make_configuration("stage", version=7)
    assert await record(prod, config=stage) == 8


async def test_a_version_reads_back_as_written(prod: SQLStore) -> None:
    deleted = Change(ChangeKind.SERVER_GROUP, "g", {"name": "\u00e9", "names": []}, None)
    await record(prod, make_change(), ATTACHED, deleted)
    await record(prod)
    expected = ConfigurationVersion(PROD, 2, LATER, "ci\u00e9", (make_change(), ATTACHED, deleted))
    assert await prod.read(lambda tx: tx.configurations.find_version(PROD, 2)) == expected
    empty = await prod.read(lambda tx: tx.configurations.find_version(PROD, 3))
    assert empty is not None
    assert empty.changes == ()
    assert await prod.read(lambda tx: tx.configurations.find_version(ConfigID("stage"), 2)) is None


async def test_versions_are_listed_from_the_newest_in_pages(prod: SQLStore) -> None:
    for number in range(5):
        await record(prod, make_change(str(number)))
    await record(prod, config=ConfigID("stage"))

    async def numbers(before: int | None = None, limit: int = 100) -> list[int]:
        found = await prod.read(lambda tx: tx.configurations.list_versions(PROD, before=before, limit=limit))
        return [version.number for version in found]

    assert await numbers() == [6, 5, 4, 3, 2]
    assert await numbers(limit=2) == [6, 5]
    assert await numbers(before=5, limit=2) == [4, 3]
    assert await numbers(before=2) == []
    after = await prod.read(lambda tx: tx.configurations.list_versions_after(PROD, 4))
    assert [version.number for version in after] == [6, 5]
    assert await prod.read(lambda tx: tx.configurations.count_versions(PROD)) == 5
    assert await prod.read(lambda tx: tx.configurations.count_versions(ConfigID("none"))) == 0


@pytest.mark.parametrize("number", [-(2**70), -1, 0, 2**63 - 1, 2**63, 2**200])
async def test_a_number_that_no_version_has_is_unknown(prod: SQLStore, number: int) -> None:
    await record(prod, make_change())
    known = await prod.read(lambda tx: tx.configurations.list_versions(PROD))
    assert await prod.read(lambda tx: tx.configurations.find_version(PROD, number)) is None
    below = await prod.read(lambda tx: tx.configurations.list_versions(PROD, before=number))
    above = await prod.read(lambda tx: tx.configurations.list_versions_after(PROD, number))
    assert (below, above) == ((known, []) if number > 0 else ([], known))


async def test_recording_in_an_unknown_configuration_is_a_bug(store: SQLStore) -> None:
    with pytest.raises(Broken, match="'nowhere' is not in the store"):
        await record(store, make_change(), config=ConfigID("nowhere"))


@pytest.mark.parametrize("text", ["prod\x00", "\ud800", "", "' OR 1=1 --"])
async def test_a_hostile_configuration_has_no_versions(prod: SQLStore, text: str) -> None:
    await record(prod)
    config = ConfigID(text)
    assert await prod.read(lambda tx: tx.configurations.list_versions(config)) == []
    assert await prod.read(lambda tx: tx.configurations.list_versions_after(config, 0)) == []
    assert await prod.read(lambda tx: tx.configurations.count_versions(config)) == 0
    assert await prod.read(lambda tx: tx.configurations.find_version(config, 2)) is None
    assert await prod.write(lambda tx: tx.configurations.lock(config)) is None


async def test_a_change_that_is_rolled_back_leaves_no_version(prod: SQLStore) -> None:
    def work(tx: UnitOfWork) -> None:
        tx.configurations.record(PROD, [make_change()], by="ci", now=LATER)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await prod.write(work)
    assert await record(prod) == 2
    assert await prod.read(lambda tx: tx.configurations.count_versions(PROD)) == 1


async def test_of_ten_records_at_once_each_has_a_number_of_its_own(prod: SQLStore) -> None:
    numbers = await asyncio.gather(*(record(prod, make_change(str(each))) for each in range(10)))
    assert sorted(numbers) == list(range(2, 12))
    for number, name in zip(numbers, range(10), strict=True):
        version = await prod.read(lambda tx, number=number: tx.configurations.find_version(PROD, number))  # type: ignore[misc]
        assert version is not None
        assert version.changes == (make_change(str(name)),)


async def test_a_locked_configuration_is_returned(prod: SQLStore) -> None:
    assert await prod.write(lambda tx: tx.configurations.lock(PROD)) == make_configuration()
    assert await prod.write(lambda tx: tx.configurations.lock(ConfigID("none"))) is None


def make_deployment(id: str, *, state: OperationState = OperationState.QUEUED) -> Operation:  # noqa: A002 - a field
    return make_operation(id, entry_uid="u1", kind=OperationKind.DEPLOY, state=state)


async def test_an_entry_has_an_unfinished_operation_in_each_lane(store: SQLStore) -> None:
    issuance = make_operation("o1", entry_uid="u1", kind=OperationKind.RENEW)
    deployment = make_deployment("o2", state=OperationState.WAITING)
    for operation in (issuance, deployment):
        await store.write(lambda tx, operation=operation: tx.operations.add(operation))  # type: ignore[misc]
    uid = EntryUID("u1")
    assert await store.write(lambda tx: tx.operations.lock_unfinished(uid)) == issuance
    assert await store.write(lambda tx: tx.operations.lock_unfinished(uid, Lane.ISSUANCE)) == issuance
    assert await store.write(lambda tx: tx.operations.lock_unfinished(uid, Lane.DEPLOYMENT)) == deployment
    for second in (make_deployment("o3"), make_operation("o4", entry_uid="u1", kind=OperationKind.REKEY)):
        with pytest.raises(LostRace):
            await store.write(lambda tx, second=second: tx.operations.add(second))  # type: ignore[misc]
    await store.write(lambda tx: tx.operations.update(replace(deployment, state=OperationState.SUCCEEDED)))
    assert await store.write(lambda tx: tx.operations.lock_unfinished(uid, Lane.DEPLOYMENT)) is None
    await store.write(lambda tx: tx.operations.add(make_deployment("o3")))

"""The store's counts of how soon certificates end and what is done about it, on both databases."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from certorbit.model.entry import Entry, EntryUID, Source, VersionID
from certorbit.model.operation import OperationKind, OperationState
from certorbit.model.schedule import Schedule
from certorbit.model.upkeep import EndGroup, RenewalStanding, Validity, Within
from certorbit.ports.store import UnitOfWork
from certorbit.services.upkeep import MOST_CONFIGURATIONS, read_upkeep
from certorbit.storage import SQLStore
from records import NOW, PROD, make_configuration, make_entry, make_operation, make_version

DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    return store


def ending(name: str, not_after: datetime, **changes: object) -> Entry:
    uid = f"u-{name}"
    version = make_version(uid, id=f"v-{name}")
    current = replace(version, facts=replace(version.facts, not_after=not_after))
    return replace(make_entry(name, uid=uid), current=current, **changes)  # type: ignore[arg-type]


def plan(tx: UnitOfWork, entry: Entry, renew_at: datetime | None, *, paused: bool = False) -> None:
    tx.schedules.put(Schedule(entry_uid=entry.uid, look_at=NOW, renew_at=renew_at, paused=paused))


async def groups(store: SQLStore) -> Sequence[EndGroup]:
    found = await store.read(lambda tx: tx.upkeep.count_ends(now=NOW))
    return sorted(found, key=lambda group: (group.first_end or NOW, group.renewal))


async def test_ends_are_counted_by_how_soon_they_come(prod: SQLStore) -> None:
    cases = [
        (NOW, Validity.ENDED, None),
        (NOW + MOMENT, Validity.VALID, Within.ONE_DAY),
        (NOW + DAY + MOMENT, Validity.VALID, Within.SEVEN_DAYS),
        (NOW + 30 * DAY, Validity.VALID, Within.THIRTY_DAYS),
        (NOW + 30 * DAY + MOMENT, Validity.VALID, None),
    ]

    def fill(tx: UnitOfWork) -> None:
        for number, (end, *_) in enumerate(cases):
            tx.entries.add(ending(f"e-{number}", end))
        tx.entries.add(ending("twin", NOW + 30 * DAY))
        tx.entries.add(make_entry("empty", uid="u-empty", with_version=False))
        tx.entries.add(ending("placeholder", NOW, source=Source.BUILT_IN))
        superseded = make_version("u-e-4", id="old")
        tx.entries.add_version(replace(superseded, facts=replace(superseded.facts, not_after=NOW)))
        tx.entries.set_current(EntryUID("u-e-4"), VersionID("v-e-4"))

    await prod.write(fill)
    found = {(each.validity, each.within): (each.number, each.first_end) for each in await groups(prod)}
    wanted = {(validity, within): (2 if within is Within.THIRTY_DAYS else 1, end) for end, validity, within in cases}
    assert found == {**wanted, (Validity.EMPTY, None): (1, None)}


async def test_what_is_done_about_an_end_is_told_apart(prod: SQLStore) -> None:
    end, none, planned = NOW + DAY, RenewalStanding.NONE, RenewalStanding.PLANNED
    cases = [
        ("never", None, False, none),
        ("soon", NOW + MOMENT, False, planned),
        ("just-due", NOW - timedelta(minutes=59), False, planned),
        ("overdue", NOW - timedelta(minutes=61), False, none),
        ("too-late", end, False, none),
        ("paused", NOW + MOMENT, True, none),
    ]
    states = {"running": OperationState.RUNNING, "waits": OperationState.WAITING, "failed": OperationState.FAILED}

    def fill(tx: UnitOfWork) -> None:
        for name, renew_at, paused, _ in cases:
            tx.entries.add(ending(name, end))
            plan(tx, ending(name, end), renew_at, paused=paused)
        tx.entries.add(ending("unplanned", end))
        for name, state in states.items():
            tx.entries.add(ending(name, end))
            tx.operations.add(make_operation(state=state, entry_uid=f"u-{name}", kind=OperationKind.RENEW))
        deployed = ending("deployed", end)
        tx.entries.add(deployed)
        tx.operations.add(
            make_operation(state=OperationState.RUNNING, entry_uid="u-deployed", kind=OperationKind.DEPLOY)
        )

    await prod.write(fill)
    found = {each.renewal: each.number for each in await groups(prod)}
    assert found == {
        planned: sum(1 for case in cases if case[3] is planned),
        none: sum(1 for case in cases if case[3] is none) + len(("unplanned", "failed", "deployed")),
        RenewalStanding.UNDER_WAY: 2,
    }


async def test_the_numbers_are_added_up_and_the_first_ends_named(prod: SQLStore) -> None:
    def fill(tx: UnitOfWork) -> None:
        tx.entries.add(ending("a", NOW + DAY))
        tx.entries.add(ending("b", NOW + 7 * DAY))
        tx.entries.add(ending("c", NOW - DAY))
        for number in range(MOST_CONFIGURATIONS):
            config = make_configuration(f"c{number:03}")
            tx.configurations.add(config)
            tx.entries.add(replace(ending(f"x-{number}", NOW + (20 + number) * DAY), config=config.id))

    await prod.write(fill)
    found = await prod.read(lambda tx: read_upkeep(tx, now=NOW))
    assert found.entries == {Validity.VALID: MOST_CONFIGURATIONS + 2, Validity.ENDED: 1}
    none = RenewalStanding.NONE
    assert found.ending == {(Within.ONE_DAY, none): 1, (Within.SEVEN_DAYS, none): 2, (Within.THIRTY_DAYS, none): 13}
    assert len(found.first_ends) == MOST_CONFIGURATIONS
    assert next(iter(found.first_ends.items())) == (PROD, NOW - DAY)
    assert f"c{MOST_CONFIGURATIONS - 1:03}" not in found.first_ends, "it is the one that ends last"


async def test_unfinished_operations_are_counted_whatever_their_age(store: SQLStore) -> None:
    made = [
        make_operation(
            state=state, kind=kind, entry_uid=f"{kind}-{state}-{number}", created_at=NOW - number * 400 * DAY
        )
        for kind in (OperationKind.RENEW, OperationKind.DEPLOY)
        for state in OperationState
        for number in range(2)
    ]

    def fill(tx: UnitOfWork) -> None:
        for operation in made:
            tx.operations.add(operation)

    await store.write(fill)
    unfinished = (OperationState.QUEUED, OperationState.RUNNING, OperationState.WAITING)
    assert await store.read(lambda tx: tx.upkeep.count_unfinished()) == {
        (kind, state): 2 for kind in (OperationKind.RENEW, OperationKind.DEPLOY) for state in unfinished
    }


async def test_a_sweep_is_due_when_its_period_is_over(store: SQLStore) -> None:
    before = await store.read(lambda tx: tx.upkeep.list_sweeps())
    assert before["renewal"].year == 2000, "it never had a turn"
    assert await store.write(lambda tx: tx.schedules.claim_sweep("renewal", now=NOW, every=DAY))
    after = await store.read(lambda tx: tx.upkeep.list_sweeps())
    assert after == {**before, "renewal": NOW + DAY}

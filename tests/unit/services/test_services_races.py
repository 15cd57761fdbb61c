"""Requests that contradict each other at the same moment, on both databases, each from a process-like store of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from desk import BY, PROD, Desk, add_prod, make_generate, make_upload
from operator_desk import issue, make_issued, renew

from certorbit.clock import SystemChance, SystemClock
from certorbit.errors import BadInput, CertorbitError, EntryExists, InUse, IssuanceFailed, NotFound, RetryRule
from certorbit.model.operation import Operation, OperationID, OperationState, Problem
from certorbit.model.site import Site, SiteID
from certorbit.ports.store import UnitOfWork
from certorbit.services import certificates, promises, renewals, sites
from certorbit.storage import SQLStore, make_engine
from certorbit.workflows import records
from fakes.clock import FakeChance, FakeClock

ROUNDS = 15
REFUSAL = Problem("The CA refused.", "urn:x", "no", {}, RetryRule.NEVER)


@pytest.fixture
async def desks(database_url: str, clock: FakeClock) -> AsyncIterator[tuple[Desk, Desk]]:
    """Two desks on one database: each has threads and connections of its own."""
    async with AsyncExitStack() as stack:
        pair: list[Desk] = []
        for number in range(2):
            store = SQLStore(make_engine(database_url), clock=SystemClock(), chance=SystemChance())
            stack.push_async_callback(store.close)
            pair.append(Desk(store, clock))
            pair[-1].new_id = _numbered(f"desk{number}")
        await add_prod(pair[0].store, clock)
        yield pair[0], pair[1]


def _numbered(prefix: str) -> Callable[[], str]:
    numbers = iter(range(10**6))
    return lambda: f"{prefix}-{next(numbers)}"


async def both(first: Awaitable[object], second: Awaitable[object]) -> list[object]:
    """Return what both came to; refusals are values."""
    results = await asyncio.gather(first, second, return_exceptions=True)
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, CertorbitError), result
    return list(results)


async def fail(desk: Desk, operation_id: OperationID) -> object:
    return await desk.store.write(
        lambda tx: records.record_failure(
            tx, operation_id, 1, REFUSAL, issuers={"acme": None}, now=desk.clock.now(), uniform=FakeChance(0.0).between
        )
    )


async def test_two_identical_posts_are_one_issuance(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    for number in range(ROUNDS):
        command = make_generate(f"entry-{number}")
        first, second = await both(one.generate(command), other.generate(command))
        assert first == second is not None
    assert len(one.jobs) + len(other.jobs) >= ROUNDS
    operations = await one.store.read(lambda tx: tx.operations.count())
    assert operations == ROUNDS
    assert (await one.configuration()).version == 1 + ROUNDS


async def test_of_two_different_posts_one_wins(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    for number in range(ROUNDS):
        entry_id = f"entry-{number}"
        results = await both(
            one.generate(make_generate(entry_id, "one.example.com")),
            other.generate(make_generate(entry_id, "other.example.com")),
        )
        assert [isinstance(result, EntryExists) for result in results].count(True) == 1
        entry = await one.find(entry_id)
        assert entry is not None
        assert entry.identifiers == (("one" if isinstance(results[1], EntryExists) else "other") + ".example.com",)


async def test_an_upload_and_an_issuance_of_one_id_don_t_mix(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    for number in range(ROUNDS):
        entry_id = f"entry-{number}"
        results = await both(one.generate(make_generate(entry_id)), other.upload(make_upload(entry_id)))
        assert [isinstance(result, EntryExists) for result in results].count(True) == 1
        entry = await one.find(entry_id)
        assert entry is not None
        assert (entry.current is None) == isinstance(results[1], EntryExists)


async def test_a_promise_and_a_failure_agree_on_who_came_first(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    for number in range(ROUNDS):
        operation_id = await one.generate(make_generate(f"entry-{number}"))
        assert operation_id is not None
        await both(*([one.promise(operation_id), fail(other, operation_id)][:: 1 if number % 2 else -1]))
        operation, entry = await one.operation(operation_id), await one.find(f"entry-{number}")
        if operation.promised:
            assert (operation.state, operation.attempt) == (OperationState.WAITING, 2)
            assert entry is not None, "what was promised stays"
        else:
            assert operation.state is OperationState.FAILED
            assert entry is None
            with pytest.raises(IssuanceFailed):
                promises.settle(await one.promise(operation_id))


async def test_a_deletion_and_a_failure_leave_one_end(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    for number in range(ROUNDS):
        entry_id = f"entry-{number}"
        operation_id = await one.generate(make_generate(entry_id))
        assert operation_id is not None
        await one.promise(operation_id)
        results = await both(one.delete(entry_id), fail(other, operation_id))
        assert results[0] is None
        assert (await one.operation(operation_id)).state is OperationState.CANCELLED
        assert await one.find(entry_id) is None


async def test_a_repeated_post_and_a_failure_agree(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    for number in range(ROUNDS):
        command = make_generate(f"entry-{number}")
        operation_id = await one.generate(command)
        assert operation_id is not None
        again, _ = await both(one.generate(command), fail(other, operation_id))
        entry = await one.find(command.id)
        if again == operation_id:
            assert entry is None, "it joined the issuance, and then that failed"
        else:
            assert entry is not None, "it came after the failure and began a new one"
            assert (await one.operation(OperationID(str(again)))).state is OperationState.QUEUED


async def test_ten_writes_at_once_into_one_configuration_are_all_kept(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    await asyncio.gather(*((one, other)[n % 2].upload(make_upload(f"entry-{n}")) for n in range(10)))
    entries = await one.store.read(lambda tx: certificates.list_entries(tx, make_upload().config))
    assert len(entries) == 10
    assert (await one.configuration()).version == 11


class Meeting:
    """Lets two transactions both look before either of them writes. Only the first look of each is held."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=30)
        self._seen: set[int] = set()

    def hold(self, who: int) -> None:
        if who not in self._seen:
            self._seen.add(who)
            self._barrier.wait()


async def test_posts_that_both_saw_a_free_id_are_one_issuance(postgres_url: str, clock: FakeClock) -> None:
    """Only PostgreSQL lets two writers look at once; on SQLite the second one waits for the first."""
    meeting = Meeting()
    async with AsyncExitStack() as stack:
        desks = []
        for number in range(2):
            store = SQLStore(make_engine(postgres_url), clock=SystemClock(), chance=SystemChance())
            stack.push_async_callback(store.close)
            desks.append(Desk(store, clock))
            desks[-1].new_id = _numbered(f"desk{number}")
        await add_prod(desks[0].store, clock)

        async def post(who: int) -> OperationID | None:
            command = make_generate("met")

            def work(tx: UnitOfWork) -> certificates.Accepted:
                tx.entries.find(command.config, command.id)
                meeting.hold(who)
                return certificates.generate(
                    tx, command, by=BY, now=clock.now(), new_id=desks[who].new_id, covers=lambda _: True
                )

            return (await desks[who].store.write(work)).operation

        first, second = await asyncio.gather(post(0), post(1))
        assert first == second is not None
        assert await desks[0].store.read(lambda tx: tx.operations.count()) == 1


async def test_deleting_twice_at_once_finds_nothing_the_second_time(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    for number in range(ROUNDS):
        entry_id = f"entry-{number}"
        await one.upload(make_upload(entry_id))
        results = await both(one.delete(entry_id), other.delete(entry_id))
        assert None in results
        assert all(result is None or isinstance(result, NotFound) for result in results)
        assert await one.find(entry_id) is None


async def test_no_server_group_names_a_certificate_that_is_deleted_at_once(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    for number in range(ROUNDS):
        entry_id = f"entry-{number}"
        await one.upload(make_upload(entry_id))
        site = Site(config=PROD, id=SiteID(entry_id), name="Site", ssl_certificate=entry_id)

        async def create(site: Site = site) -> object:
            return await other.store.write(
                lambda tx: sites.create(tx, site, by=BY, now=other.clock.now(), new_id=other.new_id)
            )

        results = await both(*([one.delete(entry_id), create()][:: 1 if number % 2 else -1]))
        stored = await one.store.read(lambda tx, site=site: tx.sites.find(PROD, site.id))  # type: ignore[misc]
        assert (stored.ssl_certificate if stored else None) in {None, "placeholder"}, results
        assert (stored is None) == any(isinstance(result, BadInput) for result in results)


async def test_changes_of_one_server_group_at_once_are_all_kept(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    site = Site(config=PROD, id=SiteID("shop"), name="Shop")
    await one.store.write(lambda tx: sites.create(tx, site, by=BY, now=one.clock.now(), new_id=one.new_id))

    async def describe(desk: Desk, text: str) -> object:
        return await desk.store.write(
            lambda tx: sites.change(
                tx,
                PROD,
                site.id,
                lambda before: replace(before, description=text),
                by=BY,
                now=desk.clock.now(),
                new_id=desk.new_id,
            )
        )

    async def rename(desk: Desk, text: str) -> object:
        return await desk.store.write(
            lambda tx: sites.change(
                tx,
                PROD,
                site.id,
                lambda before: replace(before, name=text),
                by=BY,
                now=desk.clock.now(),
                new_id=desk.new_id,
            )
        )

    for number in range(ROUNDS):
        await both(describe(one, f"text {number}"), rename(other, f"name {number}"))
        stored = await one.store.read(lambda tx: sites.get_site(tx, PROD, site.id))
        assert (stored.description, stored.name) == (f"text {number}", f"name {number}")
    history = await one.store.read(lambda tx: tx.configurations.list_versions(PROD))
    states = [change.after for version in reversed(history) for change in version.changes]
    earlier = [change.before for version in reversed(history) for change in version.changes]
    assert earlier[1:] == states[:-1], "each change begins where the one before ended"


async def test_of_two_renewals_at_once_one_starts(desks: tuple[Desk, Desk]) -> None:
    await make_issued(desks[0])
    for _ in range(ROUNDS):
        results = await both(renew(desks[0]), renew(desks[1]))
        started = [result for result in results if isinstance(result, Operation)]
        assert len(started) == 1, results
        assert [type(result) for result in results if not isinstance(result, Operation)] == [InUse]
        await issue(desks[0], started[0].id)


async def test_a_cancelled_renewal_stays_cancelled_whoever_fails_it(desks: tuple[Desk, Desk]) -> None:
    one, other = desks
    await make_issued(one)
    for _ in range(ROUNDS):
        operation_id = (await renew(one)).id

        async def cancel(operation_id: OperationID = operation_id) -> object:
            return await other.store.write(
                lambda tx: renewals.cancel_operation(tx, operation_id, by=BY, now=other.clock.now())
            )

        results = await both(fail(one, operation_id), cancel())
        assert (await one.operation(operation_id)).state is OperationState.CANCELLED, results
        entry = await one.find()
        assert entry is not None
        assert entry.current is not None

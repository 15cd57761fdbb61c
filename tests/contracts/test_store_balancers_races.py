"""Two processes at once on PostgreSQL: who attaches, deletes, publishes, spends or changes a shelf sees the other.

SQLite has one writing transaction at a time, so there none of these can meet.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TypeVar

import psycopg
import pytest

from certorbit.errors import LostRace
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore, make_engine
from fakes.clock import FakeChance, FakeClock
from records import NOW, PROD, make_attachment, make_configuration, make_entry, make_key, make_listener

T = TypeVar("T")
PATIENCE = 20.0
SHOP = make_entry("shop", uid="u-shop")
BLOG = make_entry("blog", uid="u-blog")


def open_store(url: str) -> SQLStore:
    return SQLStore(make_engine(url), clock=FakeClock(auto_advance=True), chance=FakeChance())


@pytest.fixture
async def pair(postgres_url: str) -> AsyncIterator[tuple[SQLStore, SQLStore]]:
    """The stores of two processes, and two entries."""
    first, second = open_store(postgres_url), open_store(postgres_url)

    def work(tx: UnitOfWork) -> None:
        tx.configurations.add(make_configuration())
        tx.entries.add(SHOP)
        tx.entries.add(BLOG)

    await first.write(work)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(first.close)
        stack.push_async_callback(second.close)
        yield first, second


def wait_until_one_is_held_up(url: str) -> None:
    """Return when a transaction of this database waits for another one's lock."""
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        for _ in range(10_000):
            waiting = connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            if waiting:
                return
    pytest.fail("nobody was held up")


async def meet(
    pair: tuple[SQLStore, SQLStore],
    url: str,
    first: Callable[[UnitOfWork], T],
    second: Callable[[UnitOfWork], T],
) -> list[T | BaseException]:
    """Run the second transaction while the first, which has done its work, is not yet committed; return what each said.

    The first commits once the second is held up by it.
    """
    first_is_done = threading.Event()

    def hold(tx: UnitOfWork) -> T:
        result = first(tx)
        first_is_done.set()
        wait_until_one_is_held_up(url)
        return result

    def come_second(tx: UnitOfWork) -> T:
        assert first_is_done.wait(PATIENCE)
        return second(tx)

    return await asyncio.gather(pair[0].write(hold), pair[1].write(come_second), return_exceptions=True)


def attach_if_room(tx: UnitOfWork, entry: object) -> bool:
    """Attach to a listener with room for one."""
    if tx.attachments.lock_listener(make_key()):
        return False
    tx.attachments.add(make_attachment(entry))  # type: ignore[arg-type]
    return True


async def test_of_two_who_attach_to_an_empty_listener_the_second_sees_the_first(
    pair: tuple[SQLStore, SQLStore], postgres_url: str
) -> None:
    outcomes = await meet(pair, postgres_url, lambda tx: attach_if_room(tx, SHOP), lambda tx: attach_if_room(tx, BLOG))
    assert outcomes == [True, False]
    found = await pair[0].read(lambda tx: tx.attachments.list())
    assert [attachment.entry_id for attachment in found] == ["shop"]


async def test_listeners_do_not_wait_for_each_other(pair: tuple[SQLStore, SQLStore]) -> None:
    both_hold_one = threading.Barrier(2, timeout=PATIENCE)

    def hold(tx: UnitOfWork, port: int) -> None:
        tx.attachments.lock_listener(make_key(port=port))
        both_hold_one.wait()

    await asyncio.gather(pair[0].write(lambda tx: hold(tx, 443)), pair[1].write(lambda tx: hold(tx, 8443)))


async def test_an_entry_that_is_deleted_while_it_is_attached_stays(
    pair: tuple[SQLStore, SQLStore], postgres_url: str
) -> None:
    def attach(tx: UnitOfWork) -> str:
        tx.attachments.add(make_attachment(SHOP))
        return "attached"

    def delete_unless_attached(tx: UnitOfWork) -> str:
        if tx.attachments.list_of_entry(SHOP.uid):
            return "in use"
        tx.entries.delete(SHOP.uid)
        return "deleted"

    assert await meet(pair, postgres_url, attach, delete_unless_attached) == ["attached", "in use"]
    assert await pair[0].read(lambda tx: tx.entries.get_by_uid(SHOP.uid)) == SHOP


async def test_an_entry_that_is_attached_while_it_is_deleted_is_gone(
    pair: tuple[SQLStore, SQLStore], postgres_url: str
) -> None:
    def delete(tx: UnitOfWork) -> str:
        tx.entries.delete(SHOP.uid)
        return "deleted"

    def attach_if_there(tx: UnitOfWork) -> str:
        if tx.entries.get_by_uid(SHOP.uid) is None:
            return "not found"
        tx.attachments.add(make_attachment(SHOP))
        return "attached"

    assert await meet(pair, postgres_url, delete, attach_if_there) == ["deleted", "not found"]
    assert await pair[0].read(lambda tx: tx.attachments.list()) == []


async def test_of_two_named_turns_at_once_one_is_taken(pair: tuple[SQLStore, SQLStore], postgres_url: str) -> None:
    def take(tx: UnitOfWork, holder: str) -> bool:
        return tx.named_turns.take(PROD, holder, now=NOW, until=NOW + timedelta(hours=1))

    assert await meet(pair, postgres_url, lambda tx: take(tx, "a"), lambda tx: take(tx, "b")) == [True, False]


async def test_of_two_named_turns_after_a_dead_one_one_is_taken(
    pair: tuple[SQLStore, SQLStore], postgres_url: str
) -> None:
    def take(tx: UnitOfWork, holder: str) -> bool:
        return tx.named_turns.take(PROD, holder, now=NOW, until=NOW + timedelta(hours=1))

    await pair[0].write(lambda tx: tx.named_turns.take(PROD, "dead", now=NOW - timedelta(hours=2), until=NOW))
    assert await meet(pair, postgres_url, lambda tx: take(tx, "a"), lambda tx: take(tx, "b")) == [True, False]


async def test_of_two_who_change_a_blank_shelf_one_does(pair: tuple[SQLStore, SQLStore], postgres_url: str) -> None:
    def advance(tx: UnitOfWork) -> bool:
        return tx.shelves.advance("envoy", at=0)

    assert await meet(pair, postgres_url, advance, advance) == [True, False]


async def test_of_two_who_change_a_shelf_one_does(pair: tuple[SQLStore, SQLStore], postgres_url: str) -> None:
    await pair[0].write(lambda tx: tx.shelves.advance("envoy", at=0))

    def advance(tx: UnitOfWork) -> bool:
        return tx.shelves.advance("envoy", at=1)

    assert await meet(pair, postgres_url, advance, advance) == [True, False]


async def test_of_two_who_spend_the_second_counts_the_first(pair: tuple[SQLStore, SQLStore], postgres_url: str) -> None:
    def spend(tx: UnitOfWork) -> int:
        tx.quotas.lock("1/eu", "import")
        before = tx.quotas.count("1/eu", "import", since=NOW)
        tx.quotas.add("1/eu", "import", at=NOW)
        return before

    assert await meet(pair, postgres_url, spend, spend) == [0, 1]


async def test_of_two_who_record_the_second_gets_the_next_number(
    pair: tuple[SQLStore, SQLStore], postgres_url: str
) -> None:
    def record(tx: UnitOfWork) -> int:
        return tx.configurations.record(PROD, [], by="ci", now=NOW)

    assert await meet(pair, postgres_url, record, record) == [2, 3]


async def test_a_locked_configuration_is_read_after_the_change_before(
    pair: tuple[SQLStore, SQLStore], postgres_url: str
) -> None:
    def record_after_a_look(tx: UnitOfWork) -> int:
        configuration = tx.configurations.lock(PROD)
        assert configuration is not None
        tx.configurations.record(PROD, [], by="ci", now=NOW)
        return configuration.version

    assert await meet(pair, postgres_url, record_after_a_look, record_after_a_look) == [1, 2]


async def test_two_looks_at_one_target_leave_the_later_one(pair: tuple[SQLStore, SQLStore], postgres_url: str) -> None:
    key = make_key()
    await pair[0].write(lambda tx: tx.listeners.put(make_listener(key), now=NOW))

    def look(tx: UnitOfWork, default: str) -> None:
        tx.listeners.replace("edge", [make_listener(key, default=default)], now=NOW)

    outcomes = await meet(pair, postgres_url, lambda tx: look(tx, "first"), lambda tx: look(tx, "second"))
    assert outcomes == [None, None]
    assert await pair[0].read(lambda tx: tx.listeners.list()) == [make_listener(key, default="second")]


async def test_two_defaults_at_once_are_a_lost_race(pair: tuple[SQLStore, SQLStore], postgres_url: str) -> None:
    outcomes = await meet(
        pair,
        postgres_url,
        lambda tx: tx.attachments.add(make_attachment(SHOP, is_default=True)),
        lambda tx: tx.attachments.add(make_attachment(BLOG, is_default=True)),
    )
    assert outcomes[0] is None
    assert isinstance(outcomes[1], LostRace)

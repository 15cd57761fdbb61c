"""`ports.balancer_store` on SQLite and on PostgreSQL: what is read for one unit of a roll-out alone."""

from dataclasses import replace

import pytest

from certorbit.model.deployment import AttachmentID, Wanted
from certorbit.model.entry import EntryUID
from certorbit.model.operation import OperationID
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore
from records import make_attachment, make_configuration, make_copy, make_entry, make_key, make_rollout

SHOP = make_entry("shop", uid="u-shop")
BLOG = make_entry("blog", uid="u-blog")
HOSTILE = ("edge\x00", "\ud800", "", "' OR 1=1 --")
FIRST, SECOND, THIRD = (make_key(name) for name in ("a", "b", "c"))
SHOPS = [make_attachment(SHOP, key) for key in (FIRST, SECOND, THIRD)]
BLOGS = make_attachment(BLOG, SECOND, wanted=Wanted.DETACHED)


@pytest.fixture
async def attached(store: SQLStore) -> SQLStore:
    """Two entries on three listeners."""

    def work(tx: UnitOfWork) -> None:
        tx.configurations.add(make_configuration())
        tx.entries.add(SHOP)
        tx.entries.add(BLOG)
        for attachment in (*reversed(SHOPS), BLOGS):
            tx.attachments.add(attachment)

    await store.write(work)
    return store


async def test_some_attachments_are_those_of_the_ids_that_there_are(attached: SQLStore) -> None:
    ids = [SHOPS[2].id, AttachmentID("unknown"), SHOPS[0].id]
    assert await attached.read(lambda tx: tx.attachments.list_some(ids)) == [SHOPS[0], SHOPS[2]]
    assert await attached.read(lambda tx: tx.attachments.list_some([])) == []


async def test_a_listeners_attachments_are_the_wanted_and_the_unwanted_ones(attached: SQLStore) -> None:
    assert await attached.read(lambda tx: tx.attachments.list_of_listener(SECOND)) == [BLOGS, SHOPS[1]]
    others = [replace(SECOND, port=8443), replace(SECOND, target="other"), replace(SECOND, region="x")]
    for key in others:
        assert await attached.read(lambda tx, key=key: tx.attachments.list_of_listener(key)) == []  # type: ignore[misc]


async def test_an_entrys_copies_in_a_scope_are_the_held_and_the_doomed_ones(store: SQLStore) -> None:
    old, new = make_copy("old", is_doomed=True), make_copy("new")
    others = [make_copy("x", scope="eu-2"), make_copy("y", target="other"), make_copy("z", entry_uid="u-other")]

    def work(tx: UnitOfWork) -> None:
        for copy in (old, *others, new):
            tx.copies.put(copy)

    await store.write(work)
    shop = EntryUID("u-shop")
    assert await store.read(lambda tx: tx.copies.list_in_scope("edge", "eu-1", shop)) == [new, old]
    assert await store.read(lambda tx: tx.copies.list_handles("edge", shop)) == {"old", "new", "x"}
    assert await store.read(lambda tx: tx.copies.list_handles("other", shop)) == {"y"}


async def test_some_rollouts_are_those_of_one_operation_and_these_attachments(store: SQLStore) -> None:
    operation, earlier = OperationID("o-2"), OperationID("o-1")
    rows = [
        replace(make_rollout(key=key), operation=operation, attachment=AttachmentID(f"a-{key.listener}"))
        for key in (FIRST, SECOND, THIRD)
    ]

    def work(tx: UnitOfWork) -> None:
        for row in reversed(rows):
            tx.rollouts.put(row)
            tx.rollouts.put(replace(row, operation=earlier))

    await store.write(work)
    wanted = [rows[2].attachment, AttachmentID("unknown"), rows[0].attachment]
    assert await store.read(lambda tx: tx.rollouts.list_some(operation, wanted)) == [rows[0], rows[2]]
    assert await store.read(lambda tx: tx.rollouts.list_some(operation, [])) == []
    assert await store.read(lambda tx: tx.rollouts.list_some(OperationID("o-3"), wanted)) == []


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_hostile_look_up_for_a_unit_finds_nothing(attached: SQLStore, text: str) -> None:
    row = make_rollout()

    def work(tx: UnitOfWork) -> None:
        tx.copies.put(make_copy())
        tx.rollouts.put(row)

    await attached.write(work)
    shop = EntryUID("u-shop")
    assert await attached.read(lambda tx: tx.attachments.list_some([AttachmentID(text)])) == []
    assert await attached.read(lambda tx: tx.attachments.list_of_listener(replace(FIRST, listener=text))) == []
    assert await attached.read(lambda tx: tx.copies.list_in_scope("edge", text, shop)) == []
    assert await attached.read(lambda tx: tx.copies.list_handles(text, shop)) == frozenset()
    assert await attached.read(lambda tx: tx.copies.list_handles("edge", EntryUID(text))) == frozenset()
    assert await attached.read(lambda tx: tx.rollouts.list_some(OperationID(text), [row.attachment])) == []
    assert await attached.read(lambda tx: tx.rollouts.list_some(row.operation, [AttachmentID(text)])) == []

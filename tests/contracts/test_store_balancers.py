"""`ports.balancer_store` on SQLite and on PostgreSQL: listeners, attachments, copies, roll-outs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certorbit.errors import Broken, CredentialsRefused, LostRace, Unreachable
from certorbit.model.balancer import ListenerKey
from certorbit.model.client_policy import PolicyMark
from certorbit.model.deployment import AttachmentID, Stage, Wanted
from certorbit.model.entry import ConfigID, Entry, EntryID, EntryUID
from certorbit.model.operation import OperationID, problem_from
from certorbit.model.site import ClientCertificateMode
from certorbit.model.target_look import TargetLook
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore
from records import (
    NOW,
    PROD,
    make_attachment,
    make_configuration,
    make_copy,
    make_entry,
    make_key,
    make_listener,
    make_problem,
    make_proof,
    make_rollout,
)

HOUR = timedelta(hours=1)
SHOP = make_entry("shop", uid="u-shop")
BLOG = make_entry("blog", uid="u-blog")
HOSTILE = ("edge\x00", "\ud800", "", "' OR 1=1 --")
HOSTILE_KEYS = [
    *(replace(make_key(), **{name: text}) for name in ("target", "region", "load_balancer") for text in HOSTILE[:2]),
    make_key("' OR 1=1 --"),
    make_key(port=2**40),
    make_key(port=-1),
]


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    """A configuration with two entries."""

    def work(tx: UnitOfWork) -> None:
        tx.configurations.add(make_configuration())
        tx.configurations.add(make_configuration("stage"))
        tx.entries.add(SHOP)
        tx.entries.add(BLOG)

    await store.write(work)
    return store


async def write_all(store: SQLStore, write: Callable[[UnitOfWork, Any], None], *things: Any) -> None:
    def work(tx: UnitOfWork) -> None:
        for thing in things:
            write(tx, thing)

    await store.write(work)


async def add_all(store: SQLStore, *attachments: Any) -> None:
    await write_all(store, lambda tx, attachment: tx.attachments.add(attachment), *attachments)


async def put_copies(store: SQLStore, *copies: Any) -> None:
    await write_all(store, lambda tx, copy: tx.copies.put(copy), *copies)


async def test_a_listener_reads_back_as_written_and_is_overwritten(store: SQLStore) -> None:
    written = make_listener()
    await store.write(lambda tx: tx.listeners.put(written, now=NOW))
    assert await store.read(lambda tx: tx.listeners.find(written.key)) == written
    changed = replace(written, default="", certificates=(), endpoints=(), dns_name="", max_certificates=0)
    await store.write(lambda tx: tx.listeners.put(changed, now=NOW))
    assert await store.read(lambda tx: tx.listeners.list()) == [changed]


async def test_listeners_that_differ_in_any_part_of_the_key_are_others_and_are_listed_by_key(store: SQLStore) -> None:
    key = make_key()
    keys = [
        key,
        replace(key, target="other"),
        replace(key, region=""),
        replace(key, load_balancer="api"),
        replace(key, listener="http"),
        replace(key, port=8443),
    ]
    await write_all(store, lambda tx, each: tx.listeners.put(make_listener(each), now=NOW), *keys)
    assert [listener.key for listener in await store.read(lambda tx: tx.listeners.list())] == sorted(keys)
    assert all([await store.read(lambda tx, each=each: tx.listeners.find(each)) for each in keys])  # type: ignore[misc]


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=repr)
async def test_a_listener_that_no_table_can_hold_is_unknown(store: SQLStore, key: ListenerKey) -> None:
    await store.write(lambda tx: tx.listeners.put(make_listener(), now=NOW))
    assert await store.read(lambda tx: tx.listeners.find(key)) is None
    assert await store.write(lambda tx: tx.attachments.lock_listener(key)) == []


async def test_a_new_look_at_a_target_forgets_what_it_has_no_more(store: SQLStore) -> None:
    gone, kept, elsewhere = make_key("gone"), make_key("kept"), make_key(target="other")
    await write_all(store, lambda tx, each: tx.listeners.put(make_listener(each), now=NOW), gone, kept, elsewhere)
    found = [make_listener(make_key("new")), make_listener(kept, default="arn:9")]
    await store.write(lambda tx: tx.listeners.replace("edge", found, now=NOW))
    assert await store.read(lambda tx: tx.listeners.list()) == [found[1], found[0], make_listener(elsewhere)]
    await store.write(lambda tx: tx.listeners.replace("edge", [], now=NOW))
    assert await store.read(lambda tx: tx.listeners.list()) == [make_listener(elsewhere)]


async def test_a_target_that_shows_a_listener_twice_has_it_once(store: SQLStore) -> None:
    await store.write(
        lambda tx: tx.listeners.replace("edge", [make_listener(default="a"), make_listener(default="b")], now=NOW)
    )
    assert await store.read(lambda tx: tx.listeners.list()) == [make_listener(default="b")]


async def test_listeners_of_targets_that_are_not_in_the_settings_are_forgotten(store: SQLStore) -> None:
    keys = [make_key(target=target) for target in ("a", "b", "c")]
    await write_all(store, lambda tx, each: tx.listeners.put(make_listener(each), now=NOW), *keys)
    await store.write(lambda tx: tx.listeners.forget_targets(["a", "c", "d"]))
    assert [listener.key.target for listener in await store.read(lambda tx: tx.listeners.list())] == ["a", "c"]
    await store.write(lambda tx: tx.listeners.forget_targets([]))
    assert await store.read(lambda tx: tx.listeners.list()) == []


async def test_since_when_and_why_a_target_was_not_seen_is_kept_until_it_is_seen_again(store: SQLStore) -> None:
    later, last = NOW + timedelta(minutes=5), NOW + timedelta(minutes=10)
    refused = problem_from(CredentialsRefused("No \x00 right.", subject="edge"))
    away = problem_from(Unreachable("No answer.", subject="edge", phase="connect"))

    async def looks() -> Mapping[str, TargetLook]:
        return await store.read(lambda tx: tx.listeners.looks())

    assert await looks() == {}
    await store.write(lambda tx: tx.listeners.miss("edge", refused, now=NOW))
    assert await looks() == {"edge": TargetLook(None, NOW, refused)}, "it was never seen"
    await store.write(lambda tx: tx.listeners.miss("edge", away, now=later))
    assert await looks() == {"edge": TargetLook(None, NOW, away)}, "the newest reason, the same beginning"
    await store.write(lambda tx: tx.listeners.replace("edge", [], now=later))
    assert await looks() == {"edge": TargetLook(later, None, None)}, "a target without listeners is seen, too"
    await store.write(lambda tx: tx.listeners.replace("edge", [make_listener()], now=last))
    await store.write(lambda tx: tx.listeners.miss("edge", away, now=last + timedelta(minutes=5)))
    assert await looks() == {"edge": TargetLook(last, last, away)}, "nothing is known since it was seen last"
    assert await store.read(lambda tx: tx.listeners.list()) == [make_listener()]


async def test_looks_at_targets_that_are_not_in_the_settings_are_forgotten(store: SQLStore) -> None:
    await write_all(store, lambda tx, target: tx.listeners.replace(target, [], now=NOW), "a", "b")
    await store.write(lambda tx: tx.listeners.forget_targets(["b"]))
    assert set(await store.read(lambda tx: tx.listeners.looks())) == {"b"}


async def test_an_attachment_reads_back_as_written(prod: SQLStore) -> None:
    bare = make_attachment(SHOP)
    full = replace(
        make_attachment(BLOG, is_default=True),
        promised=False,
        stage=Stage.DRIFTED,
        replaces=EntryUID("u-old"),
        version=BLOG.current.id if BLOG.current else None,
        handle="arn:1",
        proof=make_proof(),
        problem=make_problem(),
    )
    await add_all(prod, bare, full)
    assert await prod.read(lambda tx: tx.attachments.find(bare.id)) == bare
    assert await prod.read(lambda tx: tx.attachments.find(full.id)) == full


async def test_everything_but_the_place_and_the_entry_of_an_attachment_can_be_changed(prod: SQLStore) -> None:
    written = make_attachment(SHOP, is_default=True)
    other = make_attachment(BLOG)
    await add_all(prod, written, other)
    changed = replace(
        written,
        provider="gcp",
        kind="network",
        is_default=False,
        wanted=Wanted.DETACHED,
        promised=False,
        created_at=NOW - HOUR,
        updated_at=NOW + HOUR,
        stage=Stage.UNSETTLED,
        replaces=EntryUID("u-old"),
        version=SHOP.current.id if SHOP.current else None,
        handle="arn:2",
        proof=make_proof(is_served=False),
        problem=make_problem(),
        client_policy=PolicyMark(mode=ClientCertificateMode.ON, bundle=EntryID("clients"), digest="ab" * 32),
    )
    await prod.write(lambda tx: tx.attachments.update(replace(changed, listener=make_key("moved"))))
    assert await prod.read(lambda tx: tx.attachments.find(written.id)) == changed
    assert await prod.read(lambda tx: tx.attachments.find(other.id)) == other
    blank = replace(changed, replaces=None, version=None, handle="", proof=None, problem=None, client_policy=None)
    await prod.write(lambda tx: tx.attachments.update(blank))
    assert await prod.read(lambda tx: tx.attachments.find(written.id)) == blank


async def test_an_attachment_that_was_deleted_meanwhile_loses_the_race(prod: SQLStore) -> None:
    attachment = make_attachment(SHOP)
    await add_all(prod, attachment)
    await prod.write(lambda tx: tx.attachments.delete(attachment.id))
    await prod.write(lambda tx: tx.attachments.delete(attachment.id))  # again is harmless
    assert await prod.read(lambda tx: tx.attachments.find(attachment.id)) is None
    with pytest.raises(LostRace, match="was deleted meanwhile"):
        await prod.write(lambda tx: tx.attachments.update(attachment))


async def test_a_listener_has_an_entry_once(prod: SQLStore) -> None:
    await add_all(prod, make_attachment(SHOP), make_attachment(BLOG), make_attachment(SHOP, make_key("other")))
    with pytest.raises(LostRace):
        await add_all(prod, make_attachment(SHOP, wanted=Wanted.DETACHED))


async def test_a_listener_has_one_default_among_the_wanted_ones(prod: SQLStore) -> None:
    first = make_attachment(SHOP, is_default=True)
    second = make_attachment(BLOG, is_default=True)
    await add_all(prod, first, make_attachment(BLOG, make_key("other"), is_default=True))
    with pytest.raises(LostRace):
        await add_all(prod, second)

    def give_way(tx: UnitOfWork) -> None:
        tx.attachments.update(replace(first, wanted=Wanted.DETACHED))
        tx.attachments.add(second)

    await prod.write(give_way)
    with pytest.raises(LostRace):
        await prod.write(lambda tx: tx.attachments.update(first))


async def test_attachments_are_listed_by_listener_and_entry(prod: SQLStore) -> None:
    far = make_key("https", target="zone")
    elsewhere = make_entry("shop", config="stage")
    await prod.write(lambda tx: tx.entries.add(elsewhere))
    attachments = [
        make_attachment(BLOG),
        make_attachment(SHOP),
        make_attachment(SHOP, make_key(port=8443), wanted=Wanted.DETACHED),
        make_attachment(elsewhere, far),
        make_attachment(SHOP, replace(far, listener="z")),
    ]
    await add_all(prod, *reversed(attachments))
    assert await prod.read(lambda tx: tx.attachments.list()) == attachments
    assert await prod.read(lambda tx: tx.attachments.list(PROD)) == [*attachments[:3], attachments[4]]
    assert await prod.read(lambda tx: tx.attachments.list(ConfigID("stage"))) == [attachments[3]]
    assert await prod.read(lambda tx: tx.attachments.list_of_entry(SHOP.uid)) == [*attachments[1:3], attachments[4]]
    assert await prod.read(lambda tx: tx.attachments.list_of_target("zone")) == attachments[3:]
    assert await prod.write(lambda tx: tx.attachments.lock_listener(make_key())) == attachments[:2]


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_hostile_look_up_finds_no_attachment(prod: SQLStore, text: str) -> None:
    await add_all(prod, make_attachment(SHOP))
    assert await prod.read(lambda tx: tx.attachments.find(AttachmentID(text))) is None
    assert await prod.read(lambda tx: tx.attachments.list(ConfigID(text))) == []
    assert await prod.read(lambda tx: tx.attachments.list_of_entry(EntryUID(text))) == []
    assert await prod.read(lambda tx: tx.attachments.list_of_target(text)) == []


async def test_an_attached_entry_cannot_be_deleted_and_one_that_is_taken_off_can(prod: SQLStore) -> None:
    attachment = make_attachment(SHOP)
    await add_all(prod, attachment)
    # The services ask first, so that here only a race can be behind it; SQLite has none.
    with pytest.raises((LostRace, Broken)):
        await prod.write(lambda tx: tx.entries.delete(SHOP.uid))
    assert await prod.read(lambda tx: tx.entries.get_by_uid(SHOP.uid)) == SHOP
    await prod.write(lambda tx: tx.attachments.update(replace(attachment, wanted=Wanted.DETACHED)))
    await prod.write(lambda tx: tx.entries.delete(SHOP.uid))
    assert await prod.read(lambda tx: tx.attachments.find(attachment.id)) is not None
    with pytest.raises((LostRace, Broken)):
        await prod.write(lambda tx: tx.attachments.update(attachment))


async def test_an_unknown_entry_cannot_be_attached(prod: SQLStore) -> None:
    unknown: Entry = make_entry("unknown")
    with pytest.raises((LostRace, Broken)):
        await add_all(prod, make_attachment(unknown))


async def test_a_copy_reads_back_as_written_and_is_overwritten(store: SQLStore) -> None:
    written = make_copy()
    await put_copies(store, written)
    assert await store.read(lambda tx: tx.copies.find("edge", "eu-1", EntryUID("u-shop"))) == written
    changed = replace(make_copy(entry_uid="u-other", is_doomed=True), link="", updated_at=NOW + HOUR)
    await put_copies(store, changed)
    assert await store.read(lambda tx: tx.copies.list_of_target("edge")) == [changed]


async def test_the_newest_copy_that_is_not_doomed_is_the_entrys(store: SQLStore) -> None:
    old, new = make_copy("old"), make_copy("new", updated_at=NOW + HOUR)
    doomed = make_copy("doomed", updated_at=NOW + 2 * HOUR, is_doomed=True)
    elsewhere = make_copy("elsewhere", scope="eu-2", updated_at=NOW + 3 * HOUR)
    others = make_copy("others", entry_uid="u-other", updated_at=NOW + 3 * HOUR)
    await put_copies(store, new, old, doomed, elsewhere, others)
    shop = EntryUID("u-shop")
    assert await store.read(lambda tx: tx.copies.find("edge", "eu-1", shop)) == new
    await store.write(lambda tx: tx.copies.delete("edge", "eu-1", "new"))
    assert await store.read(lambda tx: tx.copies.find("edge", "eu-1", shop)) == old
    await store.write(lambda tx: tx.copies.delete("edge", "eu-1", "old"))
    assert await store.read(lambda tx: tx.copies.find("edge", "eu-1", shop)) is None
    assert await store.read(lambda tx: tx.copies.find("other", "eu-1", shop)) is None


async def test_a_handle_is_found_in_its_target(store: SQLStore) -> None:
    doomed = make_copy("arn:1", scope="a", updated_at=NOW + HOUR, is_doomed=True)
    held = make_copy("arn:1", scope="b")
    await put_copies(store, doomed, held, make_copy("arn:1", target="other"))
    assert await store.read(lambda tx: tx.copies.find_by_handle("edge", "arn:1")) == held
    await store.write(lambda tx: tx.copies.delete("edge", "b", "arn:1"))
    assert await store.read(lambda tx: tx.copies.find_by_handle("edge", "arn:1")) == doomed
    assert await store.read(lambda tx: tx.copies.find_by_handle("edge", "arn:2")) is None


async def test_copies_are_listed_by_target_and_handle(store: SQLStore) -> None:
    a = make_copy("a", target="zone")
    b = make_copy("b", config="stage", entry_uid="u-blog")
    c = make_copy("c")
    doomed = make_copy("d", is_doomed=True)
    await put_copies(store, a, doomed, c, b)
    assert await store.read(lambda tx: tx.copies.list()) == [b, c, a]
    assert await store.read(lambda tx: tx.copies.list(PROD)) == [c, a]
    assert await store.read(lambda tx: tx.copies.list_of_entry(EntryUID("u-shop"))) == [c, doomed, a]
    assert await store.read(lambda tx: tx.copies.list_of_target("edge")) == [b, c, doomed]


async def test_the_longest_doomed_copies_come_first(store: SQLStore) -> None:
    doomed = [make_copy(f"d{n}", is_doomed=True, updated_at=NOW - n * HOUR) for n in range(3)]
    await put_copies(store, make_copy("held", updated_at=NOW - 9 * HOUR), *doomed)
    assert await store.read(lambda tx: tx.copies.list_doomed(limit=2)) == [doomed[2], doomed[1]]


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_hostile_look_up_finds_no_copy(store: SQLStore, text: str) -> None:
    await put_copies(store, make_copy())
    assert await store.read(lambda tx: tx.copies.find(text, "eu-1", EntryUID("u-shop"))) is None
    assert await store.read(lambda tx: tx.copies.find("edge", "eu-1", EntryUID(text))) is None
    assert await store.read(lambda tx: tx.copies.find_by_handle("edge", text)) is None
    assert await store.read(lambda tx: tx.copies.list(ConfigID(text))) == []


async def test_a_rollout_reads_back_as_written_and_is_overwritten(store: SQLStore) -> None:
    written = make_rollout()
    await store.write(lambda tx: tx.rollouts.put(written))
    assert await store.read(lambda tx: tx.rollouts.find(written.operation, written.attachment)) == written
    changed = replace(
        make_rollout(key=make_key("moved")),
        is_default=False,
        from_version=None,
        to_version=None,
        stage=Stage.PENDING,
        before=None,
        proof=None,
        problem=None,
    )
    await store.write(lambda tx: tx.rollouts.put(changed))
    assert await store.read(lambda tx: tx.rollouts.list([written.operation])) == [changed]
    assert await store.read(lambda tx: tx.rollouts.find(written.operation, AttachmentID("a\x00"))) is None


async def test_rollouts_are_listed_by_operation_and_listener(store: SQLStore) -> None:
    rollouts = [
        make_rollout("o1", "z", key=make_key("a")),
        make_rollout("o1", "a", key=make_key("b")),
        make_rollout("o2", "a", key=make_key("a")),
    ]
    other = make_rollout("o3")
    await write_all(store, lambda tx, rollout: tx.rollouts.put(rollout), other, *reversed(rollouts))
    wanted = [OperationID(name) for name in ("o2", "o1", "none", "\ud800")]
    assert await store.read(lambda tx: tx.rollouts.list(wanted)) == rollouts
    assert await store.read(lambda tx: tx.rollouts.list([])) == []


async def test_rollouts_that_were_last_written_before_an_instant_are_deleted(store: SQLStore) -> None:
    old = make_rollout("o1", updated_at=NOW - HOUR)
    edge = make_rollout("o2", updated_at=NOW)
    await write_all(store, lambda tx, rollout: tx.rollouts.put(rollout), old, edge)
    assert await store.write(lambda tx: tx.rollouts.delete_before(NOW)) == 1
    both = [OperationID("o1"), OperationID("o2")]
    assert await store.read(lambda tx: tx.rollouts.list(both)) == [edge]

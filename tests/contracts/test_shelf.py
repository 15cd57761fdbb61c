"""`ports.target.Shelf`: the one in the store, on SQLite and PostgreSQL, and the one in memory that tests use."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from certorbit.deploying.shelf import StoredShelf
from certorbit.errors import Broken, LostRace
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.keys.keyring import LocalKeyring
from certorbit.model.balancer import Bundle
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.entry import ConfigID, EntryID, EntryUID, VersionID
from certorbit.model.material import PrivateKeyPEM
from certorbit.model.site import ClientCertificateMode
from certorbit.ports.target import Shelf, ShelfItem, ShelfState
from certorbit.storage import SQLStore, make_engine
from fakes.clock import FakeChance, FakeClock
from fakes.memory_shelf import MemoryShelf
from records import make_facts

KEYRING = LocalKeyring([KeyEncryptionKey(b"k" * 32)])
SECRET = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"


@pytest.fixture
async def stored(database_url: str) -> AsyncIterator[SQLStore]:
    store = SQLStore(make_engine(database_url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    yield store
    await store.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[Shelf]:
    if request.param == "memory":
        yield MemoryShelf()
        return
    url = request.getfixturevalue(f"{request.param}_url")
    store = SQLStore(make_engine(url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    yield StoredShelf(store=store, keyring=KEYRING, target="envoy")
    await store.close()


def make_item(name: str, *, version: str = "v1") -> ShelfItem:
    return ShelfItem(
        name=name,
        bundle=Bundle(
            config=ConfigID("prod"),
            entry_id=EntryID("shop"),
            entry_uid=EntryUID(f"u-{name}"),
            version=VersionID(version),
            chain_pem="-----BEGIN CERTIFICATE-----\nMII…\n-----END CERTIFICATE-----\n",
            key=PrivateKeyPEM(SECRET),
            facts=make_facts(),
        ),
    )


def make_policy(*, mode: ClientCertificateMode = ClientCertificateMode.ON, crl_pem: str = "") -> ClientPolicy:
    return ClientPolicy(mode=mode, bundle=EntryID("clients"), ca_pem="ca", crl_pem=crl_pem)


async def test_a_shelf_begins_blank(shelf: Shelf) -> None:
    assert await shelf.revision() == 0
    assert await shelf.load() == ShelfState(0, (), {})


async def test_what_is_put_is_there_as_it_was_with_its_key(shelf: Shelf) -> None:
    items = (make_item("a"), make_item("b"))
    changed = await shelf.change(at=0, put=[items[1], items[0]], slots={"www": "a", "api": "b"})
    assert changed.items == items
    assert changed.slots == {"api": "b", "www": "a"}
    assert await shelf.load() == changed
    assert await shelf.revision() == changed.revision
    assert changed.revision != 0
    assert changed.items[0].bundle.key.reveal() == SECRET
    assert changed.items[0].bundle.facts.not_after == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


async def test_a_change_touches_only_what_it_names(shelf: Shelf) -> None:
    first = await shelf.change(at=0, put=[make_item("a"), make_item("b")], slots={"www": "a", "api": "b"})
    second = await shelf.change(at=first.revision, put=[make_item("a", version="v2")], slots={"api": "", "new": "a"})
    assert second.items == (make_item("a", version="v2"), make_item("b"))
    assert second.slots == {"new": "a", "www": "a"}
    third = await shelf.change(at=second.revision, remove=["b", "none"])
    assert third.items == (make_item("a", version="v2"),)
    assert third.slots == {"new": "a", "www": "a"}
    assert len({0, first.revision, second.revision, third.revision}) == 4


async def test_policies_are_there_as_they_were_and_go_one_by_one(shelf: Shelf) -> None:
    plain, listed = make_policy(), make_policy(mode=ClientCertificateMode.OPTIONAL, crl_pem="crl")
    first = await shelf.change(at=0, policies={"https:443": plain, "api:443": listed})
    assert first.policies == {"api:443": listed, "https:443": plain}
    second = await shelf.change(at=first.revision, put=[make_item("a")], policies={"https:443": listed})
    assert second.policies == {"api:443": listed, "https:443": listed}
    with pytest.raises(LostRace):
        await shelf.change(at=first.revision, policies={"https:443": None})
    third = await shelf.change(at=second.revision, policies={"api:443": None, "none": None})
    assert third.policies == {"https:443": listed}
    assert await shelf.load() == third


async def test_an_item_that_is_removed_and_put_is_there(shelf: Shelf) -> None:
    first = await shelf.change(at=0, put=[make_item("a")])
    second = await shelf.change(at=first.revision, remove=["a"], put=[make_item("a", version="v2")])
    assert second.items == (make_item("a", version="v2"),)


async def test_a_change_planned_on_another_revision_is_lost_and_changes_nothing(shelf: Shelf) -> None:
    present = await shelf.change(at=0, put=[make_item("a")], slots={"www": "a"})
    for at in (0, present.revision + 1):
        with pytest.raises(LostRace):
            await shelf.change(at=at, put=[make_item("b")], remove=["a"], slots={"www": ""})
    assert await shelf.load() == present


async def test_shelves_of_two_targets_are_apart(stored: SQLStore) -> None:
    one = StoredShelf(store=stored, keyring=KEYRING, target="one")
    other = StoredShelf(store=stored, keyring=KEYRING, target="other")
    await one.change(at=0, put=[make_item("a")], slots={"www": "a"}, policies={"https:443": make_policy()})
    assert await other.load() == ShelfState(0, (), {})
    await other.change(at=0, put=[make_item("a", version="v2")])
    assert (await one.load()).items == (make_item("a"),)


async def test_a_lost_change_is_told_at_once(stored: SQLStore) -> None:
    clock = FakeClock(auto_advance=True)
    store = SQLStore(stored.engine, clock=clock, chance=FakeChance())
    shelf = StoredShelf(store=store, keyring=KEYRING, target="envoy")
    with pytest.raises(LostRace, match="shelf of envoy"):
        await shelf.change(at=5)
    assert clock.slept == []


async def test_keys_lie_sealed_in_the_database_each_for_its_own_place(stored: SQLStore) -> None:
    shelf = StoredShelf(store=stored, keyring=KEYRING, target="envoy")
    await shelf.change(at=0, put=[make_item("a"), make_item("b")])
    with stored.engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM shelf_items")).all()
    assert len(rows) == 2
    assert "c2VjcmV0" not in repr(rows)
    with stored.engine.begin() as connection:  # somebody moves one key to another item
        connection.execute(
            sa.text("UPDATE shelf_items SET sealed_key = (SELECT sealed_key FROM shelf_items WHERE name = 'a')")
        )
    with pytest.raises(Broken):
        await shelf.load()

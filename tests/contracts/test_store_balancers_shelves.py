"""`ports.balancer_store` on SQLite and on PostgreSQL: sites, regions, quotas, shelves, whose turn a publish is."""

from dataclasses import replace
from datetime import timedelta

import pytest

from certorbit.model.client_policy import ClientPolicy
from certorbit.model.entry import ConfigID, EntryID
from certorbit.model.site import ClientCertificateMode, Site, SiteID, default_site
from certorbit.ports.balancer_store import ShelvedItem
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore
from records import NOW, PROD, make_configuration, make_site

HOUR = timedelta(hours=1)
STAGE = ConfigID("stage")
HOSTILE = ("prod\x00", "\ud800", "", "' OR 1=1 --")


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    """Two configurations."""

    def work(tx: UnitOfWork) -> None:
        tx.configurations.add(make_configuration())
        tx.configurations.add(make_configuration("stage"))

    await store.write(work)
    return store


async def put_sites(store: SQLStore, *sites: Site) -> None:
    def work(tx: UnitOfWork) -> None:
        for site in sites:
            tx.sites.put(site)

    await store.write(work)


async def test_a_site_reads_back_as_written_and_is_overwritten(prod: SQLStore) -> None:
    written = make_site()
    await put_sites(prod, written)
    assert await prod.read(lambda tx: tx.sites.find(PROD, written.id)) == written
    changed = Site(config=PROD, id=written.id, name="")
    await put_sites(prod, changed)
    assert await prod.read(lambda tx: tx.sites.list(PROD)) == [changed]


@pytest.mark.parametrize("mode", ClientCertificateMode)
async def test_every_mode_of_client_certificates_reads_back(prod: SQLStore, mode: ClientCertificateMode) -> None:
    written = replace(make_site(), client_certificate_mode=mode)
    await put_sites(prod, written)
    assert await prod.read(lambda tx: tx.sites.list(PROD)) == [written]


async def test_sites_are_listed_by_id_in_their_configuration(prod: SQLStore) -> None:
    sites = [default_site(PROD), make_site("a"), make_site("a-b"), make_site("b")]
    await put_sites(prod, *reversed(sites), make_site("a", config="stage"))
    assert await prod.read(lambda tx: tx.sites.list(PROD)) == sites
    assert await prod.read(lambda tx: tx.sites.list(STAGE)) == [make_site("a", config="stage")]


async def test_a_deleted_site_is_gone_and_those_of_other_configurations_stay(prod: SQLStore) -> None:
    await put_sites(prod, make_site("a"), make_site("b"), make_site("a", config="stage"))
    for _ in range(2):  # again is harmless
        await prod.write(lambda tx: tx.sites.delete(PROD, SiteID("a")))
    assert await prod.read(lambda tx: tx.sites.list(PROD)) == [make_site("b")]
    assert await prod.read(lambda tx: tx.sites.find(PROD, SiteID("a"))) is None
    assert await prod.read(lambda tx: tx.sites.find(STAGE, SiteID("a"))) is not None


async def test_sites_that_use_a_certificate_on_either_side_are_found(prod: SQLStore) -> None:
    server = make_site("z", ssl_certificate="wanted")
    client = replace(make_site("a"), client_certificate="wanted")
    bare = replace(make_site("b", ssl_certificate=""), client_certificate="")
    elsewhere = make_site("c", ssl_certificate="wanted", config="stage")
    await put_sites(prod, server, client, bare, elsewhere, make_site("d"))
    assert await prod.read(lambda tx: tx.sites.list_using(PROD, "wanted")) == [client, server]
    assert await prod.read(lambda tx: tx.sites.list_using(PROD, "want")) == []
    assert await prod.read(lambda tx: tx.sites.list_using(PROD, "")) == []


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_hostile_look_up_finds_no_site(prod: SQLStore, text: str) -> None:
    await put_sites(prod, make_site())
    assert await prod.read(lambda tx: tx.sites.list(ConfigID(text))) == []
    assert await prod.read(lambda tx: tx.sites.find(PROD, SiteID(text))) is None
    assert await prod.read(lambda tx: tx.sites.list_using(PROD, text)) == []


async def test_the_choices_of_a_load_balancer_are_written_as_a_whole(store: SQLStore) -> None:
    assert await store.read(lambda tx: tx.regions.list()) == {}
    await store.write(lambda tx: tx.regions.put("lb2", {"FRA": "dc-1", "AMS": "dc-2"}))
    await store.write(lambda tx: tx.regions.put("lb1", {"FRA": "dc-3"}))
    await store.write(lambda tx: tx.regions.put("lb2", {"MUC": "dc-1"}))
    found = await store.read(lambda tx: tx.regions.list())
    assert found == {"lb1": {"FRA": "dc-3"}, "lb2": {"MUC": "dc-1"}}
    assert list(found) == ["lb1", "lb2"]
    await store.write(lambda tx: tx.regions.put("lb2", {}))
    assert await store.read(lambda tx: tx.regions.list()) == {"lb1": {"FRA": "dc-3"}, "lb2": {}}


async def test_uses_of_a_quota_are_counted_by_account_and_kind(store: SQLStore) -> None:
    def work(tx: UnitOfWork) -> None:
        for hours in (0, 1, 2):
            tx.quotas.lock("1/eu", "import")
            tx.quotas.add("1/eu", "import", at=NOW - hours * HOUR)
        tx.quotas.add("1/us", "import", at=NOW)
        tx.quotas.add("1/eu", "export", at=NOW)

    await store.write(work)

    async def count(since: timedelta) -> int:
        return await store.read(lambda tx: tx.quotas.count("1/eu", "import", since=NOW - since))

    assert [await count(since) for since in (-HOUR, HOUR / 2, HOUR, 9 * HOUR)] == [0, 1, 2, 3]
    assert await store.read(lambda tx: tx.quotas.count("2/eu", "import", since=NOW)) == 0


async def test_the_nth_newest_use_of_a_quota_is_found(store: SQLStore) -> None:
    def work(tx: UnitOfWork) -> None:
        for hours in (2, 0, 1):
            tx.quotas.add("1/eu", "import", at=NOW - hours * HOUR)
        tx.quotas.add("1/us", "import", at=NOW)

    await store.write(work)
    found = [
        await store.read(lambda tx, nth=nth: tx.quotas.find_nth_newest("1/eu", "import", nth=nth))  # type: ignore[misc]
        for nth in (1, 2, 3, 4)
    ]
    assert found == [NOW, NOW - HOUR, NOW - 2 * HOUR, None]


async def test_old_uses_of_quotas_are_deleted(store: SQLStore) -> None:
    def work(tx: UnitOfWork) -> None:
        tx.quotas.add("1/eu", "import", at=NOW - HOUR)
        tx.quotas.add("1/us", "import", at=NOW)

    await store.write(work)
    assert await store.write(lambda tx: tx.quotas.delete_before(NOW)) == 1
    assert await store.read(lambda tx: tx.quotas.find_nth_newest("1/eu", "import", nth=1)) is None
    assert await store.read(lambda tx: tx.quotas.find_nth_newest("1/us", "import", nth=1)) == NOW


def make_item(name: str, *, target: str = "envoy", bundle: str = '{"a":"\\u0000"}') -> ShelvedItem:
    return ShelvedItem(target=target, name=name, bundle=bundle, sealed_key=b"\x00sealed\xff")


async def test_what_is_on_a_shelf_reads_back_by_name(store: SQLStore) -> None:
    items = [make_item("a"), make_item("b")]
    elsewhere = make_item("a", target="other", bundle="{}")
    await store.write(lambda tx: tx.shelves.put_items([items[1], items[0], elsewhere]))
    await store.write(lambda tx: tx.shelves.put_items([]))
    assert await store.read(lambda tx: tx.shelves.list_items("envoy")) == items
    changed = replace(items[0], bundle="{}", sealed_key=b"")
    await store.write(lambda tx: tx.shelves.put_items([changed]))
    await store.write(lambda tx: tx.shelves.delete_items("envoy", ["b", "none"]))
    await store.write(lambda tx: tx.shelves.delete_items("envoy", []))
    assert await store.read(lambda tx: tx.shelves.list_items("envoy")) == [changed]
    assert await store.read(lambda tx: tx.shelves.list_items("other")) == [elsewhere]


async def test_slots_are_written_one_by_one_and_freed_by_an_empty_name(store: SQLStore) -> None:
    await store.write(lambda tx: tx.shelves.put_slots("envoy", {"b": "2", "a": "1", "c": "3"}))
    await store.write(lambda tx: tx.shelves.put_slots("other", {"a": "9"}))
    await store.write(lambda tx: tx.shelves.put_slots("envoy", {"a": "", "b": "4", "none": ""}))
    await store.write(lambda tx: tx.shelves.put_slots("envoy", {}))
    assert await store.read(lambda tx: tx.shelves.list_slots("envoy")) == {"b": "4", "c": "3"}
    assert await store.read(lambda tx: tx.shelves.list_slots("other")) == {"a": "9"}


def make_policy(mode: ClientCertificateMode, *, bundle: str = "clients", crl_pem: str = "") -> ClientPolicy:
    return ClientPolicy(mode=mode, bundle=EntryID(bundle), ca_pem="-----BEGIN…\n", crl_pem=crl_pem)


async def test_policies_are_written_one_by_one_and_deleted_by_none(store: SQLStore) -> None:
    strict, lax = make_policy(ClientCertificateMode.ON), make_policy(ClientCertificateMode.OPTIONAL, crl_pem="l" * 9999)
    await store.write(lambda tx: tx.shelves.put_policies("envoy", {"b": strict, "a": lax, "c": lax}))
    await store.write(lambda tx: tx.shelves.put_policies("other", {"a": strict}))
    await store.write(lambda tx: tx.shelves.put_policies("envoy", {"c": None, "b": lax, "none": None}))
    await store.write(lambda tx: tx.shelves.put_policies("envoy", {}))
    found = await store.read(lambda tx: tx.shelves.list_policies("envoy"))
    assert (found, list(found)) == ({"a": lax, "b": lax}, ["a", "b"])
    assert await store.read(lambda tx: tx.shelves.list_policies("other")) == {"a": strict}
    assert await store.read(lambda tx: tx.shelves.list_policies("' OR 1=1 --")) == {}


async def test_a_shelf_advances_from_the_revision_that_it_has_only(store: SQLStore) -> None:
    async def advance(at: int) -> bool:
        return await store.write(lambda tx: tx.shelves.advance("envoy", at=at))

    async def revision() -> int:
        return await store.read(lambda tx: tx.shelves.revision("envoy"))

    assert await revision() == 0
    assert not await advance(3)
    assert await revision() == 0
    assert [await advance(0), await advance(0), await advance(1), await advance(1)] == [True, False, True, False]
    assert await revision() == 2
    assert await store.read(lambda tx: tx.shelves.revision("other")) == 0


async def take(store: SQLStore, holder: str, *, at: timedelta = timedelta(0), config: ConfigID = PROD) -> bool:
    now = NOW + at
    return await store.write(lambda tx: tx.named_turns.take(config, holder, now=now, until=now + HOUR))


async def test_one_at_a_time_publishes_a_configuration(store: SQLStore) -> None:
    assert await take(store, "first")
    assert not await take(store, "second", at=HOUR / 2)
    assert await take(store, "second", config=STAGE)
    assert await store.read(lambda tx: tx.named_turns.is_taken(PROD, now=NOW))
    await store.write(lambda tx: tx.named_turns.give_back(PROD, "second"))  # not its own
    assert not await take(store, "second")
    await store.write(lambda tx: tx.named_turns.give_back(PROD, "first"))
    assert not await store.read(lambda tx: tx.named_turns.is_taken(PROD, now=NOW))
    assert await take(store, "second")


async def test_a_turn_ends_by_itself(store: SQLStore) -> None:
    assert await take(store, "dead")
    just_before = NOW + HOUR - timedelta(microseconds=1)
    assert await store.read(lambda tx: tx.named_turns.is_taken(PROD, now=just_before))
    assert not await store.read(lambda tx: tx.named_turns.is_taken(PROD, now=NOW + HOUR))
    assert await take(store, "next", at=HOUR)
    await store.write(lambda tx: tx.named_turns.give_back(PROD, "dead"))  # woke up after all
    assert await store.read(lambda tx: tx.named_turns.is_taken(PROD, now=NOW + HOUR))


async def test_the_holder_takes_its_turn_again_for_longer(store: SQLStore) -> None:
    assert await take(store, "first")
    assert await take(store, "first", at=HOUR / 2)
    assert await store.read(lambda tx: tx.named_turns.is_taken(PROD, now=NOW + HOUR))
    assert not await take(store, "second", at=HOUR)


@pytest.mark.parametrize("text", HOSTILE)
async def test_nobody_publishes_a_hostile_configuration(store: SQLStore, text: str) -> None:
    await take(store, "first")
    assert not await store.read(lambda tx: tx.named_turns.is_taken(ConfigID(text), now=NOW))

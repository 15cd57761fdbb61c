"""Publishing as transactions, on SQLite and PostgreSQL."""

from dataclasses import replace
from datetime import timedelta

import pytest

from certorbit.errors import NotFound, Publishing
from certorbit.model.entry import PLACEHOLDER, ConfigID
from certorbit.services import publish
from certorbit.storage import SQLStore
from records import NOW, PROD, make_configuration, make_entry, make_site

TURN = timedelta(seconds=60)


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    await store.write(lambda tx: tx.configurations.add(make_configuration(version=3)))
    return store


async def begin(store: SQLStore, holder: str, *, config: str = PROD, after: timedelta = timedelta(0)) -> None:
    now = NOW + after
    await store.write(lambda tx: publish.begin(tx, ConfigID(config), holder=holder, now=now, until=now + TURN))


async def test_one_publishes_at_a_time_until_the_turn_is_given_back(prod: SQLStore) -> None:
    await begin(prod, "one")
    with pytest.raises(Publishing, match="'prod' runs; try again in a few seconds"):
        await begin(prod, "two")
    await prod.write(lambda tx: publish.end(tx, PROD, holder="two"))  # not its turn
    with pytest.raises(Publishing):
        await begin(prod, "two")
    await prod.write(lambda tx: publish.end(tx, PROD, holder="one"))
    await begin(prod, "two")


async def test_a_turn_ends_by_itself(prod: SQLStore) -> None:
    await begin(prod, "one")
    with pytest.raises(Publishing):
        await begin(prod, "two", after=TURN - timedelta(seconds=1))
    await begin(prod, "two", after=TURN)
    await prod.write(lambda tx: publish.end(tx, PROD, holder="one"))  # too late: it takes nobody's turn away
    with pytest.raises(Publishing):
        await begin(prod, "three", after=TURN)


async def test_there_is_no_turn_of_a_configuration_that_is_not_there(prod: SQLStore) -> None:
    with pytest.raises(NotFound):
        await begin(prod, "one", config="test")
    with pytest.raises(NotFound):
        await prod.read(lambda tx: publish.take_snapshot(tx, ConfigID("test")))


async def test_a_snapshot_has_the_sites_and_the_certificates_that_they_name(prod: SQLStore) -> None:
    entries = [make_entry(name) for name in (PLACEHOLDER, "shop", "not-named")]
    entries.append(make_entry("new", with_version=False))
    site = replace(make_site("shop"), client_certificate="new")

    def fill(tx) -> None:
        for entry in entries:
            tx.entries.add(entry)
        tx.sites.put(site)

    await prod.write(fill)

    snapshot = await prod.read(lambda tx: publish.take_snapshot(tx, PROD))

    assert snapshot.configuration.version == 3
    assert [one.id for one in snapshot.sites] == ["__default__", "shop"]
    assert snapshot.sites[1] == site
    assert [entry.id for entry in snapshot.entries] == ["new", "placeholder", "shop"]
    assert snapshot.unavailable == ["new"]

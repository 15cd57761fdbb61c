"""Server groups and configuration versions, where a request through the API can't bring it about."""

import pytest
from desk import BY, PROD, SHOP, Desk, make_generate
from operator_desk import issue, make_issued, renew

from certorbit.errors import BadInput, InUse, RetryRule
from certorbit.model.change import Change
from certorbit.model.entry import ConfigID, Configuration, VersionID
from certorbit.model.operation import Problem
from certorbit.model.site import Site, SiteID
from certorbit.services import configuration_versions, renewals, sites, versions
from certorbit.services.reattaching import Bounds
from certorbit.workflows import records
from fakes.clock import FakeChance

REFUSED = Problem("The CA refused.", "IssuerRefused", "no", {}, RetryRule.NEVER)
STORE_SITE = SiteID("store")
BOUNDS = Bounds(by=BY, targets=(), reaches=lambda _: True)


async def add_site(desk: Desk, *, certificate: str = SHOP) -> None:
    site = Site(config=PROD, id=STORE_SITE, name="Store", ssl_certificate=certificate)
    await desk.store.write(lambda tx: sites.create(tx, site, by=BY, now=desk.clock.now(), new_id=desk.new_id))


async def newest_changes(desk: Desk) -> tuple[str, tuple[Change, ...]]:
    (newest,) = await desk.store.read(lambda tx: tx.configurations.list_versions(PROD, limit=1))
    return newest.by, newest.changes


async def revert(desk: Desk, number: int, *, config: str = PROD) -> None:
    await desk.store.write(
        lambda tx: configuration_versions.revert(
            tx, ConfigID(config), number, bounds=BOUNDS, now=desk.clock.now(), new_id=desk.new_id
        )
    )


async def test_an_issuance_that_fails_takes_its_certificate_out_of_server_groups(desk: Desk) -> None:
    operation = await desk.generate(make_generate())
    assert operation is not None
    await add_site(desk)
    number = (await desk.configuration()).version
    for _ in range(2):  # a repeat finds it done
        await desk.store.write(
            lambda tx: records.record_failure(
                tx,
                operation,
                1,
                REFUSED,
                issuers={"acme": None},
                now=desk.clock.now(),
                uniform=FakeChance(0.0).between,
            )
        )
    assert await desk.find() is None
    site = await desk.store.read(lambda tx: sites.get_site(tx, PROD, STORE_SITE))
    assert site.ssl_certificate == "placeholder"
    by, changes = await newest_changes(desk)
    assert (by, [(change.id, change.word) for change in changes]) == (
        "certorbit",
        [(STORE_SITE, "changed"), (SHOP, "deleted")],
    )
    assert (await desk.configuration()).version == number + 1


async def test_changes_that_are_not_all_recorded_can_not_be_taken_back(desk: Desk) -> None:
    older = Configuration(ConfigID("older"), "", 5, desk.clock.now())
    await desk.store.write(lambda tx: tx.configurations.add(older))
    with pytest.raises(BadInput, match="Not everything that changed since version 3"):
        await revert(desk, 3, config="older")
    await revert(desk, 5, config="older")


async def test_a_version_does_not_come_back_while_another_one_is_being_issued(desk: Desk) -> None:
    first = await make_issued(desk)
    second = await issue(desk, (await renew(desk)).id)
    number = (await desk.configuration()).version

    async def roll_back(version: VersionID) -> None:
        await desk.store.write(
            lambda tx: versions.roll_back(tx, PROD, SHOP, version, by=BY, now=desk.clock.now(), new_id=desk.new_id)
        )

    await roll_back(first.id)
    again = await renew(desk)
    with pytest.raises(InUse, match=again.id):
        await revert(desk, number)
    entry = await desk.find()
    assert entry is not None
    assert entry.current == first
    await desk.store.write(lambda tx: renewals.cancel_operation(tx, again.id, by=BY, now=desk.clock.now()))
    await revert(desk, number)
    entry = await desk.find()
    assert entry is not None
    assert entry.current == second

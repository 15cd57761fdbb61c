"""Listeners that several configurations use, and the way back to an earlier version of one of them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from client_policy_desk import version_of
from deployment_parts import PROD, Lab, make_lab

from certorbit.errors import InUse, NotFound
from certorbit.model.balancer import ListenerKey
from certorbit.model.entry import ConfigID, Configuration, EntryID, EntryUID
from certorbit.ports.store import UnitOfWork
from certorbit.services import balancers, configuration_versions
from certorbit.services.reattaching import Bounds
from fakes.fake_target import FakeTarget

BLUE = ConfigID("blue")


@pytest.fixture
async def lab(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Lab]:
    """A lab with the certificates `www` and `next` of one configuration and `sky` of another one."""
    target = FakeTarget()
    target.add_listener("https")
    made = await make_lab(tmp_path / "lab.sqlite", template=sqlite_template, targets=[target])
    for name in ("www", "next"):
        await made.add_entry(name)
    sky = await made.add_entry("sky")

    def move(tx: UnitOfWork) -> None:
        tx.configurations.add(Configuration(id=BLUE, description="", version=1, date=made.clock.now()))
        tx.entries.delete(sky.uid)
        tx.entries.add(replace(sky, config=BLUE))

    await made.store.write(move)
    yield made
    await made.store.close()


@pytest.fixture
def key(lab: Lab) -> ListenerKey:
    return next(iter(lab.targets[0].listeners))


async def attach_sky(lab: Lab, key: ListenerKey, *, reaches: frozenset[str]) -> None:
    command = balancers.Attach(
        config=BLUE,
        entry=EntryID("sky"),
        listener=lab.targets[0].listeners[key],
        as_default=True,
        reaches=reaches.__contains__,
    )
    now = lab.clock.now()
    await lab.store.write(lambda tx: balancers.attach(tx, command, by="blue's", now=now, new_id=lab.new_id))
    await lab.drive()


async def revert(lab: Lab, number: int, *, targets: tuple[str, ...] = ("edge",), reaches: frozenset[str]) -> None:
    bounds = Bounds(by="tester", targets=targets, reaches=reaches.__contains__)
    now = lab.clock.now()
    await lab.store.write(
        lambda tx: configuration_versions.revert(tx, PROD, number, bounds=bounds, now=now, new_id=lab.new_id)
    )
    await lab.drive()


async def history(lab: Lab, config: ConfigID) -> list[tuple[str, str, str]]:
    """Return who changed what attachments, and how, the oldest first."""
    versions = await lab.store.read(lambda tx: tx.configurations.list_versions(config))
    return [(one.by, change.id.rpartition(" ")[2], change.word) for one in versions[::-1] for change in one.changes]


def default_of(lab: Lab, key: ListenerKey) -> str:
    return lab.targets[0].listeners[key].default.rpartition("/")[2]


async def test_a_key_of_one_configuration_displaces_no_default_of_another_one(lab: Lab, key: ListenerKey) -> None:
    await lab.attach_for_good("www", key, as_default=True)
    with pytest.raises(InUse, match="belongs to a configuration that your key may not change"):
        await attach_sky(lab, key, reaches=frozenset({BLUE}))
    assert default_of(lab, key) == "www"
    assert await lab.store.read(lambda tx: tx.attachments.list_of_entry(EntryUID("uid-sky"))) == []


async def test_a_default_that_goes_to_another_configuration_is_in_both_histories(lab: Lab, key: ListenerKey) -> None:
    await lab.attach_for_good("www", key, as_default=True)
    await attach_sky(lab, key, reaches=frozenset({BLUE, PROD}))
    assert default_of(lab, key) == "sky"
    assert (await history(lab, PROD))[-1] == ("blue's", "www", "changed")
    assert await history(lab, BLUE) == [("blue's", "sky", "created")]


async def test_the_way_back_brings_the_former_default(lab: Lab, key: ListenerKey) -> None:
    await lab.attach_for_good("www", key, as_default=True)
    number = await version_of(lab)
    await lab.attach_for_good("next", key, as_default=True)
    assert default_of(lab, key) == "next"
    await revert(lab, number, reaches=frozenset({PROD}))
    assert default_of(lab, key) == "www"
    assert await lab.stages("next") == {}


async def test_the_way_back_displaces_no_default_of_another_configuration(lab: Lab, key: ListenerKey) -> None:
    await lab.attach_for_good("www", key, as_default=True)
    number = await version_of(lab)
    await attach_sky(lab, key, reaches=frozenset({BLUE, PROD}))
    with pytest.raises(InUse):
        await revert(lab, number, reaches=frozenset({PROD}))
    assert default_of(lab, key) == "sky"
    await revert(lab, number, reaches=frozenset({BLUE, PROD}))
    assert default_of(lab, key) == "www"
    assert (await history(lab, BLUE))[-1] == ("tester", "sky", "changed")


async def test_the_way_back_leads_to_no_target_that_is_closed_by_now(lab: Lab, key: ListenerKey) -> None:
    await lab.attach_for_good("www", key)
    number = await version_of(lab)
    await lab.detach("www", key)
    await lab.drive()
    with pytest.raises(NotFound, match="is gone"):
        await revert(lab, number, targets=(), reaches=frozenset({PROD}))
    assert lab.targets[0].listeners[key].certificates == ()
    await revert(lab, number, reaches=frozenset({PROD}))
    assert await lab.stages("www") == {"https": "proven"}

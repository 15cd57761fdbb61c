"""Certificate Manager: what the contract suite doesn't ask, and the plan of a map's entries by itself."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from certorbit.errors import TargetFull, TargetRefused
from certorbit.model.balancer import Bundle, Copy
from certorbit.ports.target import Target
from certorbit.targets.gcp.map_plan import MapEntry, plan_attach, plan_default, plan_detach
from targets.gcp_bench import listener_key, make_google_target, open_google
from targets.gcp_stand_in import GoogleStandIn
from targets.gcp_state import LOCATION, NUMBER, PROJECT
from targets.target_bench import make_bundle

WEB = listener_key("web")
MAP = f"{LOCATION}/certificateMaps/web"


@pytest.fixture
async def google() -> AsyncIterator[GoogleStandIn]:
    async with AsyncExitStack() as stack:
        yield await open_google(stack)


@pytest.fixture
async def target(google: GoogleStandIn) -> AsyncIterator[Target]:
    made = make_google_target(google, mode="manager")
    yield made
    await made.close()


async def install(target: Target, bundle: Bundle, present: Copy | None = None) -> Copy:
    return await target.install(bundle, scope="global", present=present)


def hostnames(google: GoogleStandIn, handle: str) -> set[str]:
    return {
        str(item.get("hostname", ""))
        for item in google.state.manager.values()
        if handle in item.get("certificates", [])
    }


async def test_each_name_of_a_certificate_gets_an_entry_and_loses_it_with_the_name(
    target: Target, google: GoogleStandIn
) -> None:
    first = make_bundle("www", names=("www.example.com", "*.example.com", "192.0.2.1"))
    copy = await install(target, first)
    await target.attach(WEB, copy, instead_of="")
    assert hostnames(google, copy.handle) == {"www.example.com", "*.example.com"}
    assert google.state.served_by_map(MAP, "any.example.com") == first.facts.fingerprint
    second = make_bundle("www", 2, names=("www.example.com", "new.example.com"))
    await target.attach(WEB, await install(target, second, copy), instead_of=copy.handle)
    assert hostnames(google, copy.handle) == {"www.example.com", "new.example.com"}
    assert google.state.served_by_map(MAP, "new.example.com") == second.facts.fingerprint


async def test_a_certificate_without_dns_names_can_only_be_the_default(target: Target) -> None:
    copy = await install(target, make_bundle("addresses", names=("192.0.2.1",)))
    with pytest.raises(TargetRefused, match="no DNS names"):
        await target.attach(WEB, copy, instead_of="")
    await target.set_default(WEB, copy)
    assert (await target.look(WEB)).default == copy.handle


async def test_a_full_entry_is_refused_before_anything_changes(target: Target, google: GoogleStandIn) -> None:
    names = [google.state.add_managed(f"m{n}", make_bundle(f"m{n}").chain_pem) for n in range(4)]
    google.state.add_entry(MAP, "full", names, hostname="www.example.com")
    copy = await install(target, make_bundle("www", names=("api.example.com", "www.example.com")))
    google.requests.clear()
    with pytest.raises(TargetFull, match="4 certificates"):
        await target.attach(WEB, copy, instead_of="")
    assert {method for method, _ in google.requests} == {"GET"}


async def test_projects_that_are_shown_by_number_are_the_same(target: Target, google: GoogleStandIn) -> None:
    copy = await install(target, make_bundle("www"))
    await target.attach(WEB, copy, instead_of="")
    entry = next(item for item in google.state.manager.values() if item.get("hostname") == "www.example.com")
    entry["certificates"] = [copy.handle.replace(PROJECT, NUMBER)]
    assert (await target.look(WEB)).certificates == (copy.handle,)


async def test_a_certificate_of_somebody_else_is_not_overwritten(target: Target, google: GoogleStandIn) -> None:
    copy = await install(target, make_bundle("www"))
    google.state.manager[copy.handle]["labels"] = {}
    with pytest.raises(TargetRefused, match="label"):
        await install(target, make_bundle("www", 2))


async def test_an_entry_that_is_pending_is_waited_for(target: Target, google: GoogleStandIn) -> None:
    copy = await install(target, make_bundle("www"))
    google.state.add_entry(MAP, "slow", [copy.handle], hostname="slow.example.com")
    entry = google.state.manager[f"{MAP}/certificateMapEntries/slow"]
    entry["state"] = "PENDING"
    google.requests.clear()
    await target.attach(WEB, copy, instead_of="")  # given up in the end: the proof tells
    looks = [path for method, path in google.requests if method == "GET" and path.endswith("certificateMapEntries")]
    assert len(looks) > 10


async def test_lists_are_read_to_the_last_page(target: Target, google: GoogleStandIn) -> None:
    google.page = 1
    copies = {(await install(target, make_bundle(f"site-{n}"))).handle for n in range(3)}
    assert set(await target.list_copies()) == copies
    assert [listener.key.load_balancer for listener in await target.discover()] == ["shop", "web"]


OURS = MapEntry("a", "a.example.com", ("old",), is_ours=True)
PRIMARY = MapEntry("p", "", ("default", "rsa"), is_ours=False)
FOREIGN = MapEntry("f", "f.example.com", ("default",), is_ours=False)


def test_an_older_certificate_is_replaced_where_it_is_and_dropped_where_the_name_is_gone() -> None:
    gone = MapEntry("g", "gone.example.com", ("old",), is_ours=True)
    changes = plan_attach([OURS, gone, PRIMARY], "new", hostnames=["A.example.com", "b.example.com"], instead_of="old")
    assert {change.hostname: change.certificates for change in changes} == {
        "a.example.com": ("new",),
        "b.example.com": ("new",),
        "gone.example.com": (),
    }


def test_the_successor_of_the_default_becomes_the_default_alone() -> None:
    changes = plan_attach([PRIMARY, OURS], "new", hostnames=["x.example.com"], instead_of="default")
    assert [(change.hostname, change.certificates) for change in changes] == [("", ("new", "rsa"))]


def test_the_default_of_before_leaves_our_entries_and_not_those_of_others() -> None:
    entry = MapEntry("d", "d.example.com", ("default",), is_ours=True)
    changes = plan_default([PRIMARY, entry, FOREIGN], "new")
    assert {change.hostname: change.certificates for change in changes} == {"": ("new", "rsa"), "d.example.com": ()}
    assert plan_default([PRIMARY], "default") == []


def test_what_is_planned_once_is_done() -> None:
    assert plan_attach([OURS], "old", hostnames=["a.example.com"], instead_of="") == []
    assert plan_detach([OURS], "other") == []

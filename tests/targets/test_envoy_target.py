"""What listeners hold: slots, races between nodes, and changes that are taken back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from certorbit.errors import LostRace, TargetFull, TargetGone, TargetRefused, Unreachable
from certorbit.model.balancer import Bundle, Copy, Endpoint
from certorbit.model.entry import EntryUID
from certorbit.model.material import Material
from certorbit.ports.target import Grade, ShelfItem, ShelfState, Startable
from certorbit.targets.envoy.catalog import Place, make_catalog, plan_attach, plan_undo
from certorbit.targets.envoy.messages import Secret, TLSCertificate
from certorbit.targets.envoy.target import EnvoyTarget
from certorbit.targets.registry import TargetParts
from certorbit.targets.registry import make_target as make_any_target
from fakes.clock import FakeChance, FakeClock
from fakes.memory_shelf import MemoryShelf
from targets.envoy_bench import HTTPS, MAIL, SECRETS, NoQuota, make_settings, make_target, start_sds
from targets.sds_client import leaf_of, open_client
from targets.target_bench import make_bundle

WWW, NEWER, SHOP = make_bundle("www"), make_bundle("www", 2), make_bundle("shop", 3)
PLACE = Place(HTTPS, SECRETS["https"])


@pytest.fixture
def shelf() -> MemoryShelf:
    return MemoryShelf()


@pytest.fixture
def target(shelf: MemoryShelf) -> EnvoyTarget:
    return make_target(make_settings(), shelf)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def install(target: EnvoyTarget, bundle: Bundle, listener=HTTPS) -> Copy:
    return await target.install(bundle, scope=target.scope_of(listener), present=None)


async def put_on(target: EnvoyTarget, bundle: Bundle, *, instead_of: str = "") -> Copy:
    copy = await install(target, bundle)
    await target.attach(HTTPS, copy, instead_of=instead_of)
    return copy


def test_it_is_made_without_a_look_at_anything_and_can_be_started(shelf: MemoryShelf) -> None:
    parts = TargetParts(clock=FakeClock(), chance=FakeChance(), quota=NoQuota(), shelf=shelf)
    assert isinstance(
        make_any_target(make_settings(listen="192.0.2.1:1", certificate="/x", key="/y", client_ca="/z"), parts),
        Startable,
    )


async def test_each_listener_has_a_copy_of_its_own(target: EnvoyTarget) -> None:
    here, there = await install(target, WWW), await install(target, WWW, MAIL)
    assert here.handle != there.handle
    assert [here.link, there.link] == ["envoy://edge/https/www", "envoy://edge/mail/www"]
    with pytest.raises(TargetGone, match="install it first"):
        await target.attach(HTTPS, there, instead_of="")


async def test_a_scope_that_the_settings_do_not_have_is_gone(target: EnvoyTarget) -> None:
    with pytest.raises(TargetGone, match="nowhere:1"):
        await target.install(WWW, scope="nowhere:1", present=None)


async def test_a_name_that_is_given_again_is_another_copy(target: EnvoyTarget) -> None:
    again = replace(WWW, entry_uid=EntryUID("another"))
    assert (await install(target, WWW)).handle != (await install(target, again)).handle


async def test_slots_are_given_in_order_and_a_free_one_again(target: EnvoyTarget, shelf: MemoryShelf) -> None:
    copies = [await put_on(target, make_bundle(f"app-{number}", number)) for number in (1, 2, 3)]
    assert list(shelf.state.slots) == ["https-1", "https-2", "https-3"]
    await target.detach(HTTPS, copies[1].handle)
    await put_on(target, WWW)
    assert shelf.state.slots["https-2"].endswith("/www/uid-www")


async def test_the_certificate_that_is_one_too_many_changes_nothing(target: EnvoyTarget, shelf: MemoryShelf) -> None:
    for number in (1, 2, 3):
        await put_on(target, make_bundle(f"app-{number}", number))
    copy = await install(target, WWW)
    before = shelf.state
    with pytest.raises(TargetFull, match="3 slots"):
        await target.attach(HTTPS, copy, instead_of="")
    assert shelf.state == before
    listener = await target.look(HTTPS)
    assert (listener.max_certificates, listener.has_room_for()) == (3, False)
    await target.attach(HTTPS, copy, instead_of=listener.certificates[0])
    await target.set_default(HTTPS, Copy(handle=listener.certificates[1], link=""))
    assert (await target.look(HTTPS)).has_room_for()


async def test_in_place_of_an_older_copy_the_new_one_gets_its_slot(target: EnvoyTarget, shelf: MemoryShelf) -> None:
    old = await put_on(target, WWW)
    await target.set_default(HTTPS, old)
    shop = await put_on(target, SHOP)
    new = await put_on(target, replace(NEWER, entry_uid=EntryUID("other")), instead_of=old.handle)
    assert shelf.state.slots == {"https-default": new.handle, "https-1": shop.handle}
    await target.attach(HTTPS, shop, instead_of=new.handle)  # It is on already, and now in the default's place.
    assert shelf.state.slots == {"https-default": shop.handle}


async def test_both_on_and_the_older_one_goes(target: EnvoyTarget, shelf: MemoryShelf) -> None:
    old, new = await put_on(target, WWW), await put_on(target, SHOP)
    await target.attach(HTTPS, new, instead_of=old.handle)
    assert shelf.state.slots == {"https-2": new.handle}


async def test_the_endpoints_are_the_listeners_addresses_or_the_host() -> None:
    listeners = [
        {"name": "a", "port": 443, "secrets": ["a"], "addresses": ["192.0.2.1", "[2001:db8::1]:8443"]},
        {"name": "b", "port": 444, "secrets": ["b"]},
    ]
    found = await make_target(make_settings(listeners=listeners, host="lb.example.com", region="eu")).discover()
    assert [listener.endpoints for listener in found] == [
        (Endpoint("192.0.2.1", 443), Endpoint("2001:db8::1", 8443)),
        (Endpoint("lb.example.com", 444),),
    ]
    assert {(one.dns_name, one.key.region, one.max_certificates) for one in found} == {("lb.example.com", "eu", 0)}


async def test_what_the_settings_lost_holds_no_copy_back(shelf: MemoryShelf) -> None:
    copy = await put_on(make_target(make_settings(), shelf), WWW)
    fewer = [{"name": "https", "port": 443, "secrets": ["https-default"]}]
    target = make_target(make_settings(listeners=fewer), shelf)
    assert not (await target.look(HTTPS)).holds(copy.handle)
    await target.remove(copy.handle)
    assert (shelf.state.items, shelf.state.slots) == ((), {})


async def test_another_node_that_was_quicker_costs_another_try(target: EnvoyTarget, shelf: MemoryShelf) -> None:
    shelf.races = 2
    await put_on(target, WWW)
    assert set((await target.list_copies()).values()) == {WWW.facts.fingerprint}


async def test_races_without_end_are_given_up(shelf: MemoryShelf) -> None:
    clock = FakeClock(auto_advance=True)
    parts = TargetParts(clock=clock, chance=FakeChance(), quota=NoQuota(), shelf=shelf)
    target = make_any_target(make_settings(), parts)
    shelf.races = 100
    with pytest.raises(LostRace):
        await target.install(WWW, scope="https:443", present=None)
    assert len(clock.slept) < 10


async def test_changes_at_once_get_slots_of_their_own(shelf: MemoryShelf) -> None:
    nodes = [make_target(make_settings(), shelf) for _ in range(3)]
    bundles = [make_bundle(f"app-{number}", number) for number in (1, 2, 3)]
    await asyncio.gather(*(put_on(node, bundle) for node, bundle in zip(nodes, bundles, strict=True)))
    assert len(set(shelf.state.slots.values())) == 3


def test_what_is_taken_back_spares_what_others_changed_since() -> None:
    copy = Copy(handle=PLACE.handle_of(WWW), link="")
    before = ShelfState(1, (ShelfItem(name=copy.handle, bundle=WWW),), {})
    done = plan_attach(before, PLACE, copy, instead_of="")
    assert done.slots == {"https-1": copy.handle}
    assert plan_undo(ShelfState(2, before.items, {"https-1": copy.handle}), done, before).slots == {"https-1": ""}
    assert not plan_undo(ShelfState(3, before.items, {"https-1": "another"}), done, before).is_needed


def chain_of(secret: Secret) -> str:
    assert isinstance(secret.content, TLSCertificate)
    return secret.content.chain_pem


def test_free_slots_have_what_the_default_has() -> None:
    placeholder = make_bundle("placeholder", 9)
    material = Material(chain_pem="c", key=placeholder.key, facts=placeholder.facts)
    item = ShelfItem(name=PLACE.handle_of(WWW), bundle=WWW)
    empty = make_catalog([PLACE], ShelfState(1, (item,), {"https-1": item.name}), material)
    assert [chain_of(empty[name]) for name in PLACE.secrets] == ["c", WWW.chain_pem, "c", "c"]
    full = make_catalog([PLACE], ShelfState(1, (item,), {"https-default": item.name, "https-2": "gone"}), material)
    assert {chain_of(secret) for secret in full.values()} == {WWW.chain_pem}
    assert len({secret.version for secret in full.values()}) == 1


class FlakyShelf(MemoryShelf):
    """A shelf whose next questions fail."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    async def revision(self) -> int:
        if self.errors:
            raise self.errors.pop()
        return await super().revision()


async def test_a_store_that_fails_for_a_while_does_not_end_the_pushes(stack: AsyncExitStack) -> None:
    shelf = FlakyShelf()
    _, address = await start_sds(stack, shelf=shelf, poll_seconds=0.01)
    client = await open_client(stack, address)
    await client.send(resource_names=["https-1"])
    await client.accept(await client.receive(), resource_names=["https-1"])
    shelf.errors = [Unreachable("no database", subject="db", phase="connect"), RuntimeError("a bug")]
    async with asyncio.timeout(10):
        while shelf.errors:
            await asyncio.sleep(0.01)
    await put_on(make_target(make_settings(), shelf), WWW)  # another node
    assert leaf_of((await client.receive()).resources[0])[1] == WWW.chain_pem


async def test_a_store_that_fails_is_a_finding(shelf: MemoryShelf) -> None:
    broken = FlakyShelf()
    broken.errors = [Unreachable("The database does not answer.", subject="db", phase="connect")]
    (finding,) = await make_target(make_settings(), broken).check()
    assert (finding.what, finding.grade) == ("read", Grade.FAILED)
    assert "The database does not answer." in finding.message


async def test_a_command_sees_from_outside_whether_somebody_serves(stack: AsyncExitStack, shelf: MemoryShelf) -> None:
    _, address = await start_sds(stack, shelf=shelf)
    findings = await make_target(make_settings(listen=address), shelf).check()
    assert [(one.what, one.grade) for one in findings] == [("read", Grade.OK), ("reach", Grade.OK)]
    findings = await make_target(make_settings(listen="unix:/nowhere/sds.sock"), shelf).check()
    assert [one.grade for one in findings] == [Grade.OK, Grade.FAILED]


async def test_the_default_is_not_taken_off(target: EnvoyTarget) -> None:
    copy = await put_on(target, WWW)
    await target.set_default(HTTPS, copy)
    with pytest.raises(TargetRefused, match="default"):
        await target.detach(HTTPS, copy.handle)

"""The SDS server with real Envoys: pushes under load, restarts of either side, two nodes, refusals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from certorbit.errors import TargetRefused
from certorbit.model.balancer import Bundle, Copy
from certorbit.ports.target import Grade
from certorbit.targets.envoy.target import EnvoyTarget
from e2e.service import free_port
from fakes.memory_shelf import MemoryShelf
from targets.envoy_bench import HTTPS, start_envoy, start_sds
from targets.envoy_process import WAIT_SECONDS, EnvoyProcess, shake_hands
from targets.target_bench import make_bundle

WWW, NEWER, SHOP = make_bundle("www"), make_bundle("www", 2), make_bundle("shop", 3)
SWAPS = 50


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def install(target: EnvoyTarget, bundle: Bundle) -> Copy:
    return await target.install(bundle, scope=target.scope_of(HTTPS), present=None)


async def put_on(target: EnvoyTarget, bundle: Bundle) -> Copy:
    copy = await install(target, bundle)
    await target.attach(HTTPS, copy, instead_of="")
    return copy


async def wait_until_served(envoy: EnvoyProcess, server_name: str, bundle: Bundle) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await envoy.served("https", server_name) != bundle.facts.fingerprint:
            await asyncio.sleep(0.02)


@dataclass
class Load:
    """Connections one after the other, each with a handshake and a request, until it is stopped."""

    port: int
    made: int = 0
    seen: frozenset[str] = frozenset()
    failures: tuple[str, ...] = ()
    stopped: bool = False

    async def run(self) -> None:
        while not self.stopped:
            try:
                leaf = await shake_hands(self.port, "www.example.com")
            except (OSError, TimeoutError) as error:
                self.failures += (repr(error),)
            else:
                self.made += 1
                self.seen |= {leaf}


@pytest.mark.parametrize("is_delta", [False, True], ids=["state-of-the-world", "delta"])
async def test_fifty_swaps_under_a_constant_load_cost_no_handshake(
    stack: AsyncExitStack, tmp_path: Path, *, is_delta: bool
) -> None:
    target, address = await start_sds(stack)
    await put_on(target, WWW)
    envoy = await start_envoy(stack, tmp_path, address, is_delta=is_delta)
    load = Load(await envoy.wait_for_listener("https"))
    runners = [asyncio.create_task(load.run()) for _ in range(4)]
    for swap in range(SWAPS):
        version = (NEWER, WWW)[swap % 2]
        await install(target, version)
        assert await envoy.served("https", "www.example.com") == version.facts.fingerprint
    load.stopped = True
    await asyncio.gather(*runners)
    assert load.failures == ()
    assert load.made > SWAPS
    assert load.seen == {WWW.facts.fingerprint, NEWER.facts.fingerprint}


@pytest.mark.parametrize("is_delta", [False, True], ids=["state-of-the-world", "delta"])
async def test_an_envoy_without_any_certificate_opens_and_serves_the_placeholder(
    stack: AsyncExitStack, tmp_path: Path, *, is_delta: bool
) -> None:
    target, address = await start_sds(stack)
    envoy = await start_envoy(stack, tmp_path, address, is_delta=is_delta)
    placeholder = await envoy.served("https", "www.example.com")
    assert placeholder == await envoy.served("https", "")
    await put_on(target, WWW)
    assert await envoy.served("https", "") == placeholder
    assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint


async def test_an_unknown_name_gets_the_default_and_not_a_slot(stack: AsyncExitStack, tmp_path: Path) -> None:
    target, address = await start_sds(stack)
    await target.set_default(HTTPS, await put_on(target, SHOP))
    await put_on(target, WWW)
    envoy = await start_envoy(stack, tmp_path, address)
    for name in ("", "elsewhere.example.org", "shop.example.com"):
        assert await envoy.served("https", name) == SHOP.facts.fingerprint
    assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint


async def test_of_two_certificates_for_a_name_the_one_in_the_earlier_slot_is_served(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    target, address = await start_sds(stack)
    twin = make_bundle("twin", 4, names=("www.example.com",))
    await put_on(target, WWW)
    await put_on(target, twin)
    envoy = await start_envoy(stack, tmp_path, address)
    assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint
    await target.detach(HTTPS, (await target.look(HTTPS)).certificates[0])
    assert await envoy.served("https", "www.example.com") == twin.facts.fingerprint


async def test_certificates_with_other_kinds_of_keys_are_served_side_by_side(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    target, address = await start_sds(stack)
    envoy = await start_envoy(stack, tmp_path, address)
    await envoy.wait_for_listener("https")
    kinds = {"rsa": "rsa-2048", "p384": "ecdsa-p384", "p256": "ecdsa-p256"}
    bundles = {name: make_bundle(name, 5, key_type=kind) for name, kind in kinds.items()}
    for bundle in bundles.values():
        await put_on(target, bundle)
    await target.set_default(HTTPS, await put_on(target, bundles["rsa"]))
    for name, bundle in bundles.items():
        assert await envoy.served("https", f"{name}.example.com") == bundle.facts.fingerprint
    assert await envoy.served("https", "elsewhere.example.org") == bundles["rsa"].facts.fingerprint
    # Without SNI Envoy prefers an ECDSA certificate to an RSA one, wherever it stands (docs/targets/envoy.md, Limits).
    assert await envoy.served("https", "") == bundles["p384"].facts.fingerprint


async def test_a_refusal_by_envoy_leaves_everything_as_it_was(stack: AsyncExitStack, tmp_path: Path) -> None:
    shelf = MemoryShelf()
    target, address = await start_sds(stack, shelf=shelf)
    envoy = await start_envoy(stack, tmp_path, address)
    await envoy.wait_for_listener("https")
    copy = await put_on(target, WWW)
    before = shelf.state
    broken = replace(NEWER, key=WWW.key)
    with pytest.raises(TargetRefused, match=r"said: edge-1 .*KEY_VALUES_MISMATCH") as caught:
        await install(target, broken)
    assert "PRIVATE KEY" not in caught.value.message
    assert (shelf.state.items, shelf.state.slots) == (before.items, before.slots)
    assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint
    await envoy.stop()
    await envoy.start()
    assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint
    assert (await target.look(HTTPS)).holds(copy.handle)


async def test_a_refused_certificate_does_not_get_a_slot(stack: AsyncExitStack, tmp_path: Path) -> None:
    shelf = MemoryShelf()
    target, address = await start_sds(stack, shelf=shelf)
    envoy = await start_envoy(stack, tmp_path, address)
    default = await envoy.served("https", "")
    copy = await install(target, replace(WWW, key=NEWER.key))  # no listener has it yet: nobody can refuse
    with pytest.raises(TargetRefused):
        await target.attach(HTTPS, copy, instead_of="")
    with pytest.raises(TargetRefused):
        await target.set_default(HTTPS, copy)
    assert shelf.state.slots == {}
    assert await envoy.served("https", "") == await envoy.served("https", "www.example.com") == default


async def test_an_envoy_that_starts_again_gets_what_it_had(stack: AsyncExitStack, tmp_path: Path) -> None:
    target, address = await start_sds(stack)
    envoy = await start_envoy(stack, tmp_path, address)
    await put_on(target, WWW)
    await target.set_default(HTTPS, await put_on(target, SHOP))
    await envoy.stop()
    await install(target, NEWER)  # nobody is connected: not an error
    await envoy.start()
    assert await envoy.served("https", "www.example.com") == NEWER.facts.fingerprint
    assert await envoy.served("https", "") == SHOP.facts.fingerprint


@pytest.mark.parametrize("is_delta", [False, True], ids=["state-of-the-world", "delta"])
async def test_envoy_serves_on_without_the_server_and_catches_up_when_it_is_back(
    stack: AsyncExitStack, tmp_path: Path, *, is_delta: bool
) -> None:
    shelf = MemoryShelf()
    first, address = await start_sds(stack, shelf=shelf)
    envoy = await start_envoy(stack, tmp_path, address, is_delta=is_delta)
    await envoy.wait_for_listener("https")
    await put_on(first, WWW)
    await first.close()
    assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint
    second, _ = await start_sds(stack, shelf=shelf, listen=address)
    await install(second, NEWER)
    await wait_until_served(envoy, "www.example.com", NEWER)


async def test_a_change_made_on_one_node_reaches_the_proxies_of_the_other(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    shelf = MemoryShelf()
    here, _ = await start_sds(stack, shelf=shelf, poll_seconds=0.1)
    _, there = await start_sds(stack, shelf=shelf, poll_seconds=0.1)
    envoy = await start_envoy(stack, tmp_path, there)
    await envoy.wait_for_listener("https")
    await put_on(here, WWW)
    await wait_until_served(envoy, "www.example.com", WWW)
    await install(here, NEWER)
    await wait_until_served(envoy, "www.example.com", NEWER)


async def test_several_envoys_change_together(stack: AsyncExitStack, tmp_path: Path) -> None:
    target, address = await start_sds(stack)
    envoys = [
        await start_envoy(stack, tmp_path / name, address, node=name, is_delta=name == "b") for name in ("a", "b")
    ]
    for envoy in envoys:
        await envoy.wait_for_listener("https")
    await put_on(target, WWW)
    for envoy in envoys:
        assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint
    assert {finding.grade for finding in await target.check()} == {Grade.OK}


async def test_a_unix_socket_will_do(stack: AsyncExitStack, tmp_path: Path) -> None:
    socket = tmp_path / "sds.sock"
    socket.parent.chmod(0o700)
    target, address = await start_sds(stack, listen=f"unix:{socket}")
    assert socket.stat().st_mode & 0o777 == 0o660
    envoy = await start_envoy(stack, tmp_path / "envoy", address)
    await envoy.wait_for_listener("https")
    await put_on(target, WWW)
    assert await envoy.served("https", "www.example.com") == WWW.facts.fingerprint


async def test_without_a_proxy_a_change_is_made_and_the_check_warns(stack: AsyncExitStack) -> None:
    target, _ = await start_sds(stack)
    copy = await put_on(target, WWW)
    assert (await target.look(HTTPS)).holds(copy.handle)
    warnings = [one.message for one in await target.check() if one.grade is Grade.WARNING]
    assert [message.partition(" to ")[0] for message in warnings] == ["No proxy is connected"]


async def test_the_port_of_a_closed_target_is_free(stack: AsyncExitStack) -> None:
    target, address = await start_sds(stack, listen=f"127.0.0.1:{free_port()}")
    await target.close()
    await target.close()
    host, _, port = address.rpartition(":")
    with suppress(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))
        pytest.fail("something listens there still")

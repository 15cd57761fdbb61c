"""The contract of `ports.target.Target`, kept by every target against the real other side."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from certorbit.errors import TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy
from certorbit.ports.target import Grade
from certorbit.targets.registry import TYPES
from targets.target_bench import TargetBench, make_bundle

# bench: `module:function` under tests/targets. A new target is one line here, with its own file.
BENCHES = {
    "aws-alb": "aws_bench:open_alb",
    "aws-classic": "aws_bench:open_classic",
    "aws-cloudfront": "aws_bench:open_cloudfront",
    "directory": "directory_bench:open_bench",
    "envoy-sds": "envoy_bench:open_sds",
    "envoy-files": "envoy_bench:open_files",
    "gcp-classic": "gcp_bench:open_classic",
    "gcp-manager": "gcp_bench:open_manager",
    "haproxy": "haproxy_bench:open_bench",
    "kubernetes": "kubernetes_bench:open_bench",
    "nginx": "nginx_bench:open_bench",
    "nginx-single": "nginx_bench:open_single",
    "webhook": "webhook_bench:open_bench",
}


@pytest.fixture(params=BENCHES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TargetBench]:
    module, _, function = BENCHES[request.param].partition(":")
    async with AsyncExitStack() as stack:
        made: TargetBench = await getattr(import_module(f"targets.{module}"), function)(tmp_path, stack)
        stack.push_async_callback(made.target.close)
        yield made


def test_every_target_is_here() -> None:
    assert {name.partition("-")[0] for name in BENCHES} == set(TYPES)


def bundle_for(bench: TargetBench, entry: str, version: int = 1) -> Bundle:
    return make_bundle(entry, version, key_type=bench.key_type)


async def install(bench: TargetBench, bundle: Bundle, *, present: Copy | None = None) -> Copy:
    return await bench.target.install(bundle, scope=bench.target.scope_of(bench.listener), present=present)


async def put_on(bench: TargetBench, bundle: Bundle) -> Copy:
    """Install the bundle and let the bench's first listener serve it, as it can."""
    copy = await install(bench, bundle)
    if bench.has_sni:
        await bench.target.attach(bench.listener, copy, instead_of="")
    else:
        await bench.target.set_default(bench.listener, copy)
    return copy


async def test_both_listeners_are_discovered_and_looked_at(bench: TargetBench) -> None:
    found = {listener.key: listener for listener in await bench.target.discover()}
    assert {bench.listener, bench.other} <= set(found)
    for key, listener in found.items():
        assert await bench.target.look(key) == listener
        assert key.target == bench.target.name
        assert listener.provider == bench.target.provider
        assert listener.endpoints
    assert (found[bench.listener].max_certificates > 0) == bench.has_sni


async def test_an_attached_copy_is_served_for_its_name(bench: TargetBench) -> None:
    bundle = bundle_for(bench, "www")
    copy = await put_on(bench, bundle)
    assert (await bench.target.look(bench.listener)).holds(copy.handle)
    assert await bench.served(bench.listener, "www.example.com") == bundle.facts.fingerprint
    assert not (await bench.target.look(bench.other)).holds(copy.handle)


async def test_repeated_calls_change_nothing_and_make_no_second_copy(bench: TargetBench) -> None:
    bundle = bundle_for(bench, "www")
    first = await put_on(bench, bundle)
    before = await bench.target.look(bench.listener)
    assert await install(bench, bundle) == first  # as after a crash before the copy was written down
    assert await install(bench, bundle, present=first) == first
    assert await put_on(bench, bundle) == first
    assert await bench.target.look(bench.listener) == before
    assert set(await bench.target.list_copies()) == {first.handle}


async def test_a_new_version_takes_the_place_of_the_old_one(bench: TargetBench) -> None:
    old, new = bundle_for(bench, "www"), bundle_for(bench, "www", 2)
    first = await put_on(bench, old)
    second = await install(bench, new, present=first)
    assert (second.handle == first.handle) == bench.is_in_place
    await bench.target.attach(bench.listener, second, instead_of=first.handle)
    assert await bench.served(bench.listener, "www.example.com") == new.facts.fingerprint
    held = await bench.target.look(bench.listener)
    assert held.holds(second.handle)
    if first.handle != second.handle:
        assert not held.holds(first.handle)
        await bench.target.remove(first.handle)
    assert set(await bench.target.list_copies()) == {second.handle}
    shown = (await bench.target.list_copies())[second.handle]
    assert shown in {"", new.facts.fingerprint}


async def test_the_old_version_comes_back(bench: TargetBench) -> None:
    old, new = bundle_for(bench, "www"), bundle_for(bench, "www", 2)
    first = await put_on(bench, old)
    second = await install(bench, new, present=first)
    await bench.target.attach(bench.listener, second, instead_of=first.handle)
    third = await install(bench, old, present=second)
    await bench.target.attach(bench.listener, third, instead_of=second.handle)
    assert await bench.served(bench.listener, "www.example.com") == old.facts.fingerprint


async def test_two_entries_are_served_side_by_side(bench: TargetBench) -> None:
    if not bench.has_sni:
        pytest.skip("the listener takes one certificate")
    bundles = [bundle_for(bench, "www"), bundle_for(bench, "shop", 3)]
    copies = [await put_on(bench, bundle) for bundle in bundles]
    listener = await bench.target.look(bench.listener)
    assert {copy.handle for copy in copies} <= set(listener.certificates)
    assert await bench.served(bench.listener, "www.example.com") == bundles[0].facts.fingerprint
    assert await bench.served(bench.listener, "shop.example.com") == bundles[1].facts.fingerprint


async def test_the_default_is_what_clients_without_a_known_name_get(bench: TargetBench) -> None:
    bundle = bundle_for(bench, "www")
    copy = await put_on(bench, bundle)
    await bench.target.set_default(bench.listener, copy)
    await bench.target.set_default(bench.listener, copy)
    listener = await bench.target.look(bench.listener)
    assert listener.default == copy.handle
    assert await bench.served(bench.listener, "") == bundle.facts.fingerprint
    assert await bench.served(bench.listener, "www.example.com") == bundle.facts.fingerprint
    with pytest.raises(TargetRefused):
        await bench.target.detach(bench.listener, copy.handle)
    assert await bench.served(bench.listener, "") == bundle.facts.fingerprint


async def test_a_new_version_of_the_default_becomes_the_default(bench: TargetBench) -> None:
    old, new = bundle_for(bench, "www"), bundle_for(bench, "www", 2)
    first = await put_on(bench, old)
    await bench.target.set_default(bench.listener, first)
    second = await install(bench, new, present=first)
    await bench.target.attach(bench.listener, second, instead_of=first.handle)
    assert (await bench.target.look(bench.listener)).default == second.handle
    assert await bench.served(bench.listener, "") == new.facts.fingerprint


async def test_a_detached_copy_is_not_served_and_can_be_removed(bench: TargetBench) -> None:
    if not bench.has_sni:
        pytest.skip("the only certificate of a listener can't be taken off")
    bundle = bundle_for(bench, "www")
    copy = await put_on(bench, bundle)
    for _ in range(2):
        await bench.target.detach(bench.listener, copy.handle)
    assert not (await bench.target.look(bench.listener)).holds(copy.handle)
    assert await bench.served(bench.listener, "www.example.com") != bundle.facts.fingerprint
    for _ in range(2):
        await bench.target.remove(copy.handle)
    assert await bench.target.list_copies() == {}


async def test_a_copy_in_use_is_not_removed(bench: TargetBench) -> None:
    bundle = bundle_for(bench, "www")
    copy = await put_on(bench, bundle)
    with pytest.raises(TargetRefused):
        await bench.target.remove(copy.handle)
    assert await bench.served(bench.listener, "www.example.com" if bench.has_sni else "") == bundle.facts.fingerprint


async def test_what_is_not_there_is_gone(bench: TargetBench) -> None:
    nowhere = replace(bench.listener, listener="nowhere", port=1)
    copy = await install(bench, bundle_for(bench, "www"))
    with pytest.raises(TargetGone):
        await bench.target.look(nowhere)
    with pytest.raises(TargetGone):
        await bench.target.attach(nowhere, copy, instead_of="")


async def test_the_check_finds_everything_in_order_and_changes_nothing(bench: TargetBench) -> None:
    copy = await put_on(bench, bundle_for(bench, "www"))
    before = [await bench.target.look(bench.listener), await bench.target.look(bench.other)]
    findings = await bench.target.check()
    assert findings
    assert {finding.grade for finding in findings} <= {Grade.OK}
    assert [await bench.target.look(bench.listener), await bench.target.look(bench.other)] == before
    assert set(await bench.target.list_copies()) == {copy.handle}

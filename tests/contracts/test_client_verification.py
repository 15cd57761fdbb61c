"""The contract of `ports.target.VerifiesClients`, kept by every target that checks client certificates, and by the fake.

`lets_in` asks the real other side; the fake says it of itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from certorbit.errors import TargetGone
from certorbit.model.balancer import Copy, ListenerKey
from certorbit.ports.target import Target, VerifiesClients
from fakes.fake_target import VerifyingTarget
from targets.client_certificates import OPTIONAL, OURS, THEIRS, gets_in, make_policy
from targets.haproxy_bench import keys_of, make_target
from targets.haproxy_process import settings_for, start_haproxy
from targets.target_bench import make_bundle


class VerifyingAdapter(Target, VerifiesClients, Protocol):
    """Both ports in one object."""


@dataclass(frozen=True)
class ClientBench:
    """A target with two listeners. lets_in: whether a listener lets a client in under a name; the client: a file."""

    target: VerifyingAdapter
    listener: ListenerKey
    other: ListenerKey
    lets_in: Callable[[ListenerKey, str, Path | None], Awaitable[bool]]

    async def install(self, entry: str, listener: ListenerKey | None = None, version: int = 1) -> Copy:
        scope = self.target.scope_of(listener or self.listener)
        return await self.target.install(make_bundle(entry, version), scope=scope, present=None)


async def open_haproxy(folder: Path, stack: AsyncExitStack) -> ClientBench:
    haproxy = await stack.enter_async_context(start_haproxy(folder))
    settings = settings_for(haproxy)
    listener, other = keys_of(settings)

    async def lets_in(key: ListenerKey, name: str, client: Path | None) -> bool:
        return await gets_in(key.port, name, client)

    return ClientBench(make_target(settings), listener, other, lets_in)


async def open_fake(_folder: Path, _stack: AsyncExitStack) -> ClientBench:
    target = VerifyingTarget()
    listener, other = target.add_listener("l1"), target.add_listener("l2")

    async def lets_in(key: ListenerKey, name: str, client: Path | None) -> bool:
        policy = target.policy_of(key.listener, name)
        if policy is None or client is None:
            return policy is None or policy.mode is OPTIONAL
        shown = OURS if client.name.startswith("good") else THEIRS
        return make_policy(shown).ca_pem in policy.ca_pem

    return ClientBench(target, listener, other, lets_in)


@pytest.fixture(params=[open_haproxy, open_fake], ids=["haproxy", "fake"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ClientBench]:
    async with AsyncExitStack() as stack:
        yield await request.param(tmp_path, stack)


async def test_what_is_asked_for_before_is_in_force_when_a_copy_comes_on(
    bench: ClientBench, good: Path, wrong: Path
) -> None:
    copy = await bench.install("www")
    for _ in range(2):
        await bench.target.verify_clients(bench.listener, copy, make_policy(OURS))
        await bench.target.attach(bench.listener, copy, instead_of="")
    seen = [await bench.lets_in(bench.listener, "www.example.com", client) for client in (None, wrong, good)]
    assert seen == [False, False, True]


async def test_only_clients_of_this_copy_on_this_listener_are_checked(bench: ClientBench) -> None:
    copy, beside = await bench.install("www"), await bench.install("open", version=3)
    elsewhere = await bench.install("www", bench.other)
    for listener, held in ((bench.listener, copy), (bench.listener, beside), (bench.other, elsewhere)):
        await bench.target.attach(listener, held, instead_of="")
    await bench.target.verify_clients(bench.listener, copy, make_policy(OURS))
    assert not await bench.lets_in(bench.listener, "www.example.com", None)
    assert await bench.lets_in(bench.listener, "open.example.com", None)
    assert await bench.lets_in(bench.other, "www.example.com", None)


async def test_the_last_policy_holds(bench: ClientBench, good: Path, wrong: Path) -> None:
    copy = await bench.install("www")
    await bench.target.attach(bench.listener, copy, instead_of="")
    for policy, expected in (
        (make_policy(OURS, mode=OPTIONAL), [True, False, True]),
        (make_policy(OURS, THEIRS), [False, True, True]),
        (make_policy(THEIRS), [False, True, False]),
        (None, [True, True, True]),
        (None, [True, True, True]),
    ):
        await bench.target.verify_clients(bench.listener, copy, policy)
        seen = [await bench.lets_in(bench.listener, "www.example.com", client) for client in (None, wrong, good)]
        assert seen == expected


async def test_a_policy_stays_through_new_versions_and_while_a_copy_is_off(bench: ClientBench, good: Path) -> None:
    copy = await bench.install("www")
    await bench.target.verify_clients(bench.listener, copy, make_policy(OURS))
    await bench.target.attach(bench.listener, copy, instead_of="")
    again = await bench.target.install(make_bundle("www", 2), scope=bench.target.scope_of(bench.listener), present=copy)
    assert again == copy
    await bench.target.detach(bench.listener, copy.handle)
    await bench.target.attach(bench.listener, copy, instead_of="")
    seen = [await bench.lets_in(bench.listener, "www.example.com", client) for client in (None, good)]
    assert seen == [False, True]


async def test_a_copy_that_is_removed_takes_its_policy_along(bench: ClientBench) -> None:
    copy = await bench.install("www")
    await bench.target.verify_clients(bench.listener, copy, make_policy(OURS))
    await bench.target.remove(copy.handle)
    copy = await bench.install("www")
    await bench.target.attach(bench.listener, copy, instead_of="")
    assert await bench.lets_in(bench.listener, "www.example.com", None)


async def test_there_is_nothing_to_check_where_no_listener_is(bench: ClientBench) -> None:
    copy = await bench.install("www")
    nowhere = ListenerKey(bench.target.name, "", "nowhere", "nowhere", 1)
    with pytest.raises(TargetGone):
        await bench.target.verify_clients(nowhere, copy, make_policy(OURS))

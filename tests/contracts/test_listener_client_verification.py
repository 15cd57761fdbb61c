"""The contract of `ports.target.VerifiesListenerClients`, kept by every target whose listeners check clients as a whole.

`lets_in` asks the real other side; the fake says it of itself.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from certorbit.errors import TargetGone
from certorbit.model.balancer import ListenerKey
from fakes.fake_target import ListenerVerifyingTarget
from targets.client_certificates import OPTIONAL, OURS, THEIRS, make_policy
from targets.envoy_client_bench import open_envoy_clients, open_envoy_files_clients
from targets.listener_client_bench import ListenerClientBench
from targets.nginx_client_bench import open_nginx_listener_clients
from targets.target_bench import make_bundle


async def open_fake(_folder: Path, _stack: AsyncExitStack) -> ListenerClientBench:
    target = ListenerVerifyingTarget()
    listener, other = target.add_listener("l1"), target.add_listener("l2")

    async def lets_in(key: ListenerKey, name: str, client: Path | None) -> bool:
        policy = target.policy_of(key.listener, name)
        if policy is None or client is None:
            return policy is None or policy.mode is OPTIONAL
        if client.name.startswith("goodbye") and policy.crl_pem:
            return False
        shown = OURS if client.name.startswith("good") else THEIRS
        return make_policy(shown).ca_pem in policy.ca_pem

    return ListenerClientBench(target, listener, other, lets_in)


@pytest.fixture(
    params=[open_fake, open_envoy_clients, open_envoy_files_clients, open_nginx_listener_clients],
    ids=["fake", "envoy-sds", "envoy-files", "nginx"],
)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ListenerClientBench]:
    async with AsyncExitStack() as stack:
        yield await request.param(tmp_path, stack)


async def test_what_is_asked_for_before_is_in_force_when_the_first_copy_comes_on(
    bench: ListenerClientBench, good: Path, wrong: Path
) -> None:
    copy = await bench.install("www")
    for _ in range(2):
        await bench.target.verify_listener_clients(bench.listener, make_policy(OURS))
        await bench.target.set_default(bench.listener, copy)
    assert await bench.see([None, wrong, good]) == [False, False, True]


async def test_all_clients_of_the_listener_are_checked_and_nobody_else(bench: ListenerClientBench, good: Path) -> None:
    copy, beside = await bench.install("www"), await bench.install("beside", version=3)
    elsewhere = await bench.install("www", bench.other)
    await bench.target.set_default(bench.listener, copy)
    await bench.target.set_default(bench.other, elsewhere)
    await bench.target.verify_listener_clients(bench.listener, make_policy(OURS))
    await bench.target.attach(bench.listener, beside, instead_of="")
    assert await bench.see([None, good]) == [False, True]
    assert await bench.see([None, good], name="beside.example.com") == [False, True]
    if bench.can_be_without:
        assert await bench.lets_in(bench.other, "www.example.com", None)


async def test_the_last_policy_holds(bench: ListenerClientBench, good: Path, wrong: Path) -> None:
    copy = await bench.install("www")
    await bench.target.set_default(bench.listener, copy)
    steps = [(make_policy(OURS, THEIRS), [False, True, True]), (make_policy(THEIRS), [False, True, False])]
    if bench.has_optional:
        steps.insert(0, (make_policy(OURS, mode=OPTIONAL), [True, False, True]))
    if bench.can_be_without:
        steps += [(None, [True, True, True])] * 2  # type: ignore[list-item]
    for policy, expected in steps:
        await bench.target.verify_listener_clients(bench.listener, policy)
        assert await bench.see([None, wrong, good]) == expected


async def test_a_revoked_client_stays_outside(bench: ListenerClientBench, tmp_path: Path, good: Path) -> None:
    copy = await bench.install("www")
    await bench.target.set_default(bench.listener, copy)
    OURS.issue(tmp_path, "goodbye")
    revoked = [one for one in OURS.issued if one.subject.rfc4514_string() == "CN=goodbye"]
    await bench.target.verify_listener_clients(bench.listener, make_policy(OURS, crls=[OURS.list_revoked(*revoked)]))
    assert await bench.see([None, tmp_path / "goodbye-1.pem", good]) == [False, False, True]


async def test_a_policy_stays_through_new_versions_and_other_certificates(
    bench: ListenerClientBench, good: Path
) -> None:
    copy, beside = await bench.install("www"), await bench.install("beside", version=3)
    await bench.target.set_default(bench.listener, beside)
    await bench.target.verify_listener_clients(bench.listener, make_policy(OURS))
    await bench.target.attach(bench.listener, copy, instead_of="")
    again = await bench.target.install(make_bundle("www", 2), scope=bench.target.scope_of(bench.listener), present=copy)
    await bench.target.attach(bench.listener, again, instead_of=copy.handle)
    assert await bench.see([None, good]) == [False, True]
    await bench.target.detach(bench.listener, again.handle)
    await bench.target.attach(bench.listener, again, instead_of="")
    assert await bench.see([None, good]) == [False, True]


async def test_there_is_nothing_to_check_where_no_listener_is(bench: ListenerClientBench) -> None:
    nowhere = ListenerKey(bench.target.name, "", "nowhere", "nowhere", 1)
    with pytest.raises(TargetGone):
        await bench.target.verify_listener_clients(nowhere, make_policy(OURS))

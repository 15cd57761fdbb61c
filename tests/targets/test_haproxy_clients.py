"""Client certificates at a real HAProxy: who is let in, and what a restart, a new version or a way back leaves."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from certorbit.errors import TargetRefused
from certorbit.model.balancer import Copy, ListenerKey
from certorbit.model.site import ClientCertificateMode
from certorbit.net.probe import TLSProber
from certorbit.ports.target import Grade
from certorbit.targets.haproxy.target import HAProxyTarget
from targets.client_certificates import ADDRESS, ClientCA, gets_in, make_policy
from targets.haproxy_bench import keys_of, make_target
from targets.haproxy_process import RunningHAProxy, settings_for, start_haproxy
from targets.target_bench import make_bundle

NAME = "www.example.com"
OPTIONAL = ClientCertificateMode.OPTIONAL


@dataclass
class Scene:
    haproxy: RunningHAProxy
    target: HAProxyTarget
    listener: ListenerKey
    copy: Copy
    ours: ClientCA
    theirs: ClientCA
    good: Path
    wrong: Path

    async def lets_in(self, client: Path | None = None, *, name: str = NAME) -> bool:
        """Return whether the client gets an answer; in TLS 1.2 and 1.3 alike."""
        seen = {
            await gets_in(self.listener.port, name, client, newest=version)
            for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
        }
        assert len(seen) == 1
        return seen.pop()

    async def attach(self) -> None:
        await self.target.attach(self.listener, self.copy, instead_of="")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        haproxy = await stack.enter_async_context(start_haproxy(tmp_path, listeners=1, options="no-tls-tickets"))
        settings = settings_for(haproxy)
        target = make_target(settings)
        listener = keys_of(settings)[0]
        copy = await target.install(make_bundle("www"), scope=target.scope_of(listener), present=None)
        ours, theirs = ClientCA(1), ClientCA(2)
        yield Scene(
            haproxy=haproxy,
            target=target,
            listener=listener,
            copy=copy,
            ours=ours,
            theirs=theirs,
            good=ours.issue(tmp_path, "good"),
            wrong=theirs.issue(tmp_path, "wrong"),
        )


async def test_from_its_first_handshake_on_a_listener_lets_only_good_clients_in(scene: Scene) -> None:
    await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours))
    await scene.attach()
    assert await scene.lets_in(scene.good)
    assert not await scene.lets_in()
    assert not await scene.lets_in(scene.wrong)


async def test_a_check_that_begins_later_changes_nothing_for_others(scene: Scene) -> None:
    await scene.attach()
    other = await scene.target.install(
        make_bundle("open", 3), scope=scene.target.scope_of(scene.listener), present=None
    )
    await scene.target.attach(scene.listener, other, instead_of="")
    assert await scene.lets_in()
    for _ in range(2):  # a repeat is harmless
        await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours))
        assert not await scene.lets_in()
        assert await scene.lets_in(scene.good)
        assert await scene.lets_in(name="open.example.com")
    listener = await scene.target.look(scene.listener)
    assert sorted(listener.certificates) == sorted([scene.copy.handle, other.handle])


async def test_a_restart_and_a_new_version_keep_the_check(scene: Scene) -> None:
    policy = make_policy(scene.ours, crls=[scene.ours.list_revoked()])
    await scene.target.verify_clients(scene.listener, scene.copy, policy)
    await scene.attach()
    await scene.haproxy.restart()
    assert (await scene.lets_in(), await scene.lets_in(scene.good)) == (False, True)
    await scene.target.install(make_bundle("www", 2), scope=scene.target.scope_of(scene.listener), present=scene.copy)
    assert (await scene.lets_in(), await scene.lets_in(scene.good)) == (False, True)
    assert {finding.grade for finding in await scene.target.check()} == {Grade.OK}


async def test_who_is_detached_and_attached_again_is_checked_as_before(scene: Scene) -> None:
    await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours))
    await scene.attach()
    await scene.target.detach(scene.listener, scene.copy.handle)
    await scene.attach()
    assert (await scene.lets_in(), await scene.lets_in(scene.good)) == (False, True)


async def test_a_revoked_client_stays_outside(scene: Scene) -> None:
    await scene.attach()
    await scene.target.verify_clients(
        scene.listener, scene.copy, make_policy(scene.ours, crls=[scene.ours.list_revoked()])
    )
    assert await scene.lets_in(scene.good)
    revoked = make_policy(scene.ours, crls=[scene.ours.list_revoked(*scene.ours.issued)])
    await scene.target.verify_clients(scene.listener, scene.copy, revoked)
    assert not await scene.lets_in(scene.good)


async def test_a_list_that_has_ended_lets_nobody_in(scene: Scene) -> None:
    await scene.attach()
    ended = make_policy(scene.ours, crls=[scene.ours.list_revoked(days=-1)])
    await scene.target.verify_clients(scene.listener, scene.copy, ended)
    assert not await scene.lets_in(scene.good)


async def test_with_mode_optional_only_bad_certificates_stay_outside(scene: Scene) -> None:
    await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours, mode=OPTIONAL))
    await scene.attach()
    assert await scene.lets_in()
    assert await scene.lets_in(scene.good)
    assert not await scene.lets_in(scene.wrong)


async def test_modes_and_bundles_change_and_go_and_leave_no_files(scene: Scene) -> None:
    folder = Path(scene.copy.handle).parent
    before = sorted(path.name for path in folder.iterdir())
    await scene.attach()
    for policy, welcome in (
        (make_policy(scene.ours), scene.good),
        (make_policy(scene.theirs), scene.wrong),
        (make_policy(scene.ours, scene.theirs), scene.wrong),
    ):
        await scene.target.verify_clients(scene.listener, scene.copy, policy)
        assert (await scene.lets_in(), await scene.lets_in(welcome)) == (False, True)
    await scene.target.verify_clients(scene.listener, scene.copy, None)
    assert await scene.lets_in()
    assert sorted(path.name for path in folder.iterdir()) == before
    assert ".ca" not in await scene.haproxy.ask("show ssl ca-file")
    await scene.haproxy.restart()
    assert await scene.lets_in()


async def test_cas_that_haproxy_refuses_leave_what_was_there(scene: Scene) -> None:
    await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours))
    await scene.attach()
    many = make_policy(*(ClientCA(number) for number in range(3, 40)))
    assert len(many.ca_pem) > 16_384, "more than its buffer"
    with pytest.raises(TargetRefused, match=r"tune\.bufsize"):
        await scene.target.verify_clients(scene.listener, scene.copy, many)
    for _ in range(2):
        assert (await scene.lets_in(), await scene.lets_in(scene.good)) == (False, True)
        await scene.haproxy.restart()


async def test_the_default_certificate_can_not_be_one_whose_clients_are_checked(scene: Scene) -> None:
    await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours))
    with pytest.raises(TargetRefused, match="default certificate"):
        await scene.target.set_default(scene.listener, scene.copy)
    await scene.target.verify_clients(scene.listener, scene.copy, None)
    await scene.target.set_default(scene.listener, scene.copy)
    with pytest.raises(TargetRefused, match="default certificate"):
        await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours))
    assert await scene.lets_in()


async def test_the_check_says_where_memory_and_file_let_others_in(scene: Scene) -> None:
    await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours))
    await scene.attach()
    crt_list = Path(scene.haproxy.listeners[0].crt_list)
    crt_list.write_text(crt_list.read_text().replace("verify required", "verify optional"))
    warnings = [finding.message for finding in await scene.target.check() if finding.grade is Grade.WARNING]
    assert any("checks the clients of" in message for message in warnings)


async def test_the_prober_sees_the_door_and_the_way_around_it(scene: Scene) -> None:
    """HAProxy resumes a session under any name; without a session cache there is none (docs/targets/haproxy.md)."""
    await scene.attach()
    prober = TLSProber()
    endpoints = (await scene.target.look(scene.listener)).endpoints

    async def see() -> tuple[bool, bool]:
        (tried,) = await prober.try_without_certificate(endpoints, [NAME])
        assert (tried.address, tried.server_name) == (ADDRESS, NAME)
        return tried.gets_in, tried.by_session

    assert await see() == (True, False)
    await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours))
    assert await see() == (True, True)
    config = scene.haproxy.config
    config.write_text(config.read_text().replace("    nbthread 2\n", "    nbthread 2\n    tune.ssl.cachesize 0\n"))
    await scene.haproxy.restart()
    assert await see() == (False, False)
    await scene.target.verify_clients(scene.listener, scene.copy, make_policy(scene.ours, mode=OPTIONAL))
    assert await see() == (True, False)

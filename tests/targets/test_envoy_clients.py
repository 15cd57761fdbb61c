"""Client certificates at a real Envoy by SDS: who is let in, when it begins, and what is left when something goes wrong."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from certorbit.errors import TargetRefused
from certorbit.model.balancer import Endpoint
from certorbit.model.client_policy import ClientPolicy
from certorbit.net.probe import TLSProber
from certorbit.ports.target import VerifiesListenerClients
from certorbit.targets.envoy.target import EnvoyTarget
from fakes.memory_shelf import MemoryShelf
from programs import require_program
from targets.client_certificates import ADDRESS, OPTIONAL, OURS, THEIRS, gets_in, make_context, make_policy
from targets.envoy_bench import HTTPS, MAIL, start_envoy, start_sds
from targets.envoy_client_bench import Door, start_checking_envoy, start_client_sds
from targets.envoy_process import REQUEST, WAIT_SECONDS
from targets.target_bench import make_bundle

WWW = make_bundle("www")
NAME = "www.example.com"
SWAPS = 20


@dataclass
class Scene:
    """An Envoy, our server for it, and one client of each kind. is_required: what Envoy's configuration says."""

    stack: AsyncExitStack
    folder: Path
    is_required: bool
    shelf: MemoryShelf
    target: EnvoyTarget
    address: str
    door: Door
    clients: list[Path | None] = field(default_factory=list)

    async def see(self) -> list[bool]:
        """Return who gets in: nobody's client, theirs, ours."""
        return [await self.door.lets_in(HTTPS, NAME, client) for client in self.clients]

    async def put_on(self) -> None:
        copy = await self.target.install(WWW, scope=self.target.scope_of(HTTPS), present=None)
        await self.target.set_default(HTTPS, copy)

    async def verify(self, policy: ClientPolicy | None) -> None:
        await self.target.verify_listener_clients(HTTPS, policy)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def open_scene(stack: AsyncExitStack, folder: Path, *, is_required: bool = True, **more) -> Scene:
    shelf = MemoryShelf()
    target, address = await start_client_sds(stack, is_required=is_required, shelf=shelf)
    envoy = await start_checking_envoy(stack, folder / "envoy", address, is_required=is_required, **more)
    clients = [None, THEIRS.issue(folder, "wrong"), OURS.issue(folder, "good")]
    return Scene(stack, folder, is_required, shelf, target, address, Door(envoy), clients)


@pytest.fixture
async def demanding(stack: AsyncExitStack, tmp_path: Path) -> Scene:
    return await open_scene(stack, tmp_path)


@pytest.fixture
async def asking(stack: AsyncExitStack, tmp_path: Path) -> Scene:
    return await open_scene(stack, tmp_path, is_required=False)


@pytest.mark.parametrize("is_delta", [False, True], ids=["state-of-the-world", "delta"])
async def test_a_listener_that_demands_certificates_is_closed_before_its_first_policy(
    stack: AsyncExitStack, tmp_path: Path, *, is_delta: bool
) -> None:
    scene = await open_scene(stack, tmp_path, is_delta=is_delta)
    assert isinstance(scene.target, VerifiesListenerClients)
    assert await scene.see() == [False, False, False]
    await scene.put_on()
    assert await scene.see() == [False, False, False]
    await scene.verify(make_policy(OURS))
    assert await scene.see() == [False, False, True]


def asks_for_a_certificate(port: int) -> bool:
    openssl = require_program("openssl")
    run = subprocess.run(
        [openssl, "s_client", "-connect", f"{ADDRESS}:{port}", "-tls1_2"],
        input=b"",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b"BEGIN CERTIFICATE" in run.stdout
    return b"Client Certificate Types" in run.stdout


async def test_a_listener_without_a_policy_asks_nobody_and_with_one_everybody(asking: Scene) -> None:
    port = await asking.door.envoy.wait_for_listener("https")
    assert not await asyncio.to_thread(asks_for_a_certificate, port)
    for _ in range(2):
        await asking.verify(None)
        assert await asking.see() == [True, True, True]
    for _ in range(2):
        await asking.verify(make_policy(OURS, mode=OPTIONAL))
        assert await asking.see() == [True, False, True]
    assert await asyncio.to_thread(asks_for_a_certificate, port)
    assert await asking.door.lets_in(MAIL, NAME, asking.clients[1])
    await asking.verify(None)
    assert await asking.see() == [True, True, True]
    assert not await asyncio.to_thread(asks_for_a_certificate, port)
    assert asking.shelf.state.policies == {}


async def test_a_listener_that_demands_certificates_takes_mode_on_alone(demanding: Scene) -> None:
    for _ in range(2):
        with pytest.raises(TargetRefused, match="client_certificate_mode to on"):
            await demanding.verify(make_policy(THEIRS, mode=OPTIONAL))
        with pytest.raises(TargetRefused, match="require_client_certificate to false"):
            await demanding.verify(None)
        await demanding.verify(make_policy(OURS))
        assert await demanding.see() == [False, False, True]


async def test_a_listener_that_asks_takes_mode_optional_alone(asking: Scene) -> None:
    await asking.verify(make_policy(OURS, mode=OPTIONAL))
    with pytest.raises(TargetRefused, match="require_client_certificate to true"):
        await asking.verify(make_policy(THEIRS))
    assert await asking.see() == [True, False, True]


async def test_a_listener_without_a_clients_secret_takes_no_policy(stack: AsyncExitStack) -> None:
    target, _ = await start_sds(stack)
    await target.verify_listener_clients(HTTPS, None)
    with pytest.raises(TargetRefused, match="clients_secret"):
        await target.verify_listener_clients(HTTPS, make_policy(OURS))


async def test_cas_that_envoy_refuses_leave_what_was_there(demanding: Scene) -> None:
    broken = replace(make_policy(OURS), ca_pem="no certificate")
    await demanding.put_on()
    await demanding.see()
    for before, expected in ((None, [False, False, False]), (make_policy(OURS), [False, False, True])):
        if before is not None:
            await demanding.verify(before)
        with pytest.raises(TargetRefused, match=r"'https-clients'.* said: edge-1 .*trusted CA"):
            await demanding.verify(broken)
        assert demanding.shelf.state.policies.get("https:443") == before
        assert await demanding.see() == expected


async def test_a_list_that_can_not_be_read_or_has_ended_lets_nobody_in(demanding: Scene) -> None:
    for crl in ("no list", OURS.list_revoked(days=-1)):
        await demanding.verify(make_policy(OURS, crls=[crl]))
        assert await demanding.see() == [False, False, False]
    await demanding.verify(make_policy(OURS, crls=[OURS.list_revoked()]))
    assert await demanding.see() == [False, False, True]


async def test_no_moment_is_open_or_closed_while_lists_change(demanding: Scene) -> None:
    goodbye = OURS.issue(demanding.folder, "goodbye")
    revoked = OURS.issued[-1]
    lists = [OURS.list_revoked(revoked), OURS.list_revoked()]
    port = await demanding.door.envoy.wait_for_listener("https")
    await demanding.verify(make_policy(OURS, crls=[lists[1]]))
    seen: dict[Path | None, set[bool]] = {client: set() for client in demanding.clients}
    stopped = asyncio.Event()

    async def knock(client: Path | None) -> None:
        while not stopped.is_set():
            seen[client].add(await gets_in(port, NAME, client))

    knocking = [asyncio.create_task(knock(client)) for client in demanding.clients]
    for swap in range(SWAPS):
        await demanding.verify(make_policy(OURS, crls=[lists[swap % 2]]))
        assert await gets_in(port, NAME, goodbye) is (swap % 2 == 1)
    stopped.set()
    await asyncio.gather(*knocking)
    assert list(seen.values()) == [{False}, {False}, {True}]


async def test_what_is_checked_survives_the_service_and_the_proxy(demanding: Scene) -> None:
    await demanding.put_on()
    await demanding.verify(make_policy(OURS))
    await demanding.target.close()
    assert await demanding.see() == [False, False, True]
    target, _ = await start_client_sds(demanding.stack, shelf=demanding.shelf, listen=demanding.address)
    await demanding.door.envoy.stop()
    await demanding.door.envoy.start()
    assert await demanding.see() == [False, False, True]
    await target.verify_listener_clients(HTTPS, make_policy(THEIRS))
    assert await demanding.see() == [False, True, False]


async def test_proxies_of_another_node_check_as_soon_as_the_change_is_made(demanding: Scene) -> None:
    there, address = await start_client_sds(demanding.stack, shelf=demanding.shelf, poll_seconds=0.02)
    door = Door(await start_checking_envoy(demanding.stack, demanding.folder / "other", address))
    await door.envoy.wait_for_listener("https")
    await demanding.verify(make_policy(OURS))
    async with asyncio.timeout(WAIT_SECONDS):
        while not await door.lets_in(HTTPS, NAME, demanding.clients[2]):
            await asyncio.sleep(0.02)
    assert not await door.lets_in(HTTPS, NAME, None)
    await there.verify_listener_clients(HTTPS, make_policy(OURS))  # nothing to do any more
    assert await door.lets_in(HTTPS, NAME, demanding.clients[2])


async def test_an_envoy_that_does_not_ask_for_the_check_is_found_out(stack: AsyncExitStack, tmp_path: Path) -> None:
    shelf = MemoryShelf()
    target, address = await start_client_sds(stack, shelf=shelf, acknowledge_seconds=2)
    envoy = await start_envoy(stack, tmp_path / "open", address, node="forgetful")
    await envoy.wait_for_listener("https")
    with pytest.raises(TargetRefused, match=r"forgetful.*validation_context_sds_secret_config"):
        await target.verify_listener_clients(HTTPS, make_policy(OURS))
    assert shelf.state.policies == {}
    await envoy.stop()
    checking = await start_checking_envoy(stack, tmp_path / "checking", address)
    await checking.wait_for_listener("https")
    await target.verify_listener_clients(HTTPS, make_policy(OURS))
    assert [one for one in await target.check() if one.what == "clients"] == []
    await envoy.start()
    await envoy.wait_for_listener("https")
    (found,) = [one.message for one in await target.check() if one.what == "clients"]
    assert found.startswith("forgetful serves")


@dataclass
class Knock:
    """A TLS connection that stays open, with its session."""

    stream: ssl.SSLSocket
    is_resumed: bool

    @classmethod
    def make(cls, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> "Knock":
        """Connect and ask once. Raises OSError if that isn't answered."""
        plain = socket.create_connection((ADDRESS, port), timeout=WAIT_SECONDS)
        stream = context.wrap_socket(plain, server_hostname=NAME, session=session)
        knock = cls(stream, bool(stream.session_reused))
        knock.ask()
        return knock

    def ask(self) -> None:
        self.stream.sendall(REQUEST.replace(b"close", b"keep-alive"))
        if not self.stream.recv(4096).startswith(b"HTTP/1.1 200"):
            self.stream.close()
            raise ConnectionResetError("no answer")


def is_let_in_again(port: int, context: ssl.SSLContext, first: Knock) -> bool:
    """Return whether a client gets in by the session of its first connection."""
    with suppress(OSError):
        again = Knock.make(port, context, first.stream.session)
        again.stream.close()
        return again.is_resumed
    return False


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name)
async def test_a_new_policy_ends_all_sessions_and_no_connection(demanding: Scene, newest: ssl.TLSVersion) -> None:
    port = await demanding.door.envoy.wait_for_listener("https")
    context = make_context(demanding.clients[1], newest=newest)
    wide, narrow = make_policy(OURS, THEIRS), make_policy(OURS)
    await demanding.verify(wide)
    first = await asyncio.to_thread(Knock.make, port, context)
    assert await asyncio.to_thread(is_let_in_again, port, context, first)
    await demanding.verify(narrow)
    assert not await asyncio.to_thread(is_let_in_again, port, context, first)
    await asyncio.to_thread(first.ask)  # docs/targets/envoy.md: connections that are open stay open
    first.stream.close()


async def test_the_prober_finds_no_way_around_the_check(demanding: Scene) -> None:
    endpoint = Endpoint(ADDRESS, await demanding.door.envoy.wait_for_listener("https"))
    for policy in (None, make_policy(OURS)):
        if policy is not None:
            await demanding.verify(policy)
        (tried,) = await TLSProber().try_without_certificate([endpoint], [NAME])
        assert (tried.gets_in, tried.by_session) == (False, False)


async def test_ticket_keys_of_ones_own_let_in_whom_the_bundle_lost(stack: AsyncExitStack, tmp_path: Path) -> None:
    """A warning of docs/targets/envoy.md. If this fails, Envoy has become better, and the page can say so."""
    (tmp_path / "ticket.key").write_bytes(bytes(range(80)))
    scene = await open_scene(
        stack, tmp_path, tls={"session_ticket_keys": {"keys": [{"filename": str(tmp_path / "ticket.key")}]}}
    )
    port = await scene.door.envoy.wait_for_listener("https")
    context = make_context(scene.clients[1])
    await scene.verify(make_policy(OURS, THEIRS))
    first = await asyncio.to_thread(Knock.make, port, context)
    await scene.verify(make_policy(OURS))
    assert not await gets_in(port, NAME, scene.clients[1])
    assert await asyncio.to_thread(is_let_in_again, port, context, first)
    first.stream.close()

"""Client certificates at a real nginx: what is refused, put back, repaired and swept, and which ways around there are."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from certorbit.errors import TargetRefused
from certorbit.ports.target import Grade, VerifiesListenerClients
from certorbit.targets.nginx import make
from certorbit.targets.nginx.target import NginxTarget
from make import make_certificate, make_key, pem, write_key
from targets.client_certificates import ADDRESS, OPTIONAL, OURS, THEIRS, gets_in, make_context, make_policy
from targets.file_parts import bundle_of, key_of, make_parts
from targets.nginx_process import RealNginx

NAME, OTHER_NAME = "www.example.com", "other.example.com"
SWAPS = 10


@dataclass
class Scene:
    nginx: RealNginx
    target: NginxTarget
    good: Path
    wrong: Path

    def __post_init__(self) -> None:
        self.port = self.nginx.ports[0]
        self.key = key_of("web", "https0", self.port)
        self.home = self.nginx.folder / "certorbit"
        self.clients = self.home / f"https0-{self.port}.clients"
        self.include = f"include {self.clients};"

    async def see(self, name: str = NAME) -> list[bool]:
        """Return whether these get in: a client without a certificate, one of another CA, one of ours."""
        return [await gets_in(self.port, name, client) for client in (None, self.wrong, self.good)]

    def edit(self, old: str, new: str, count: int = 1) -> None:
        text = self.nginx.conf.read_text()
        assert old in text
        self.nginx.conf.write_text(text.replace(old, new, count))

    def tree(self) -> dict[str, bytes]:
        files = (path for path in self.home.rglob("*") if path.is_file())
        return {str(path.relative_to(self.home)): path.read_bytes() for path in files}

    def policy_files(self) -> list[str]:
        return sorted(path.suffix for path in (self.home / f"https0-{self.port}").iterdir() if path.is_file())

    async def complaints(self) -> list[str]:
        return [finding.message for finding in await self.target.check() if finding.grade is Grade.FAILED]


async def open_scene(stack: AsyncExitStack, folder: Path, *, sni: bool = True) -> Scene:
    nginx = RealNginx(stack, sni=sni, listeners=1, checks_clients=True)
    target = await nginx.start(stack)
    assert isinstance(target, NginxTarget)
    scene = Scene(nginx, target, OURS.issue(folder, "good"), THEIRS.issue(folder, "wrong"))
    copy = await target.install(bundle_of("www"), scope=target.scope_of(scene.key), present=None)
    await target.set_default(scene.key, copy)
    return scene


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        yield await open_scene(stack, tmp_path)


async def test_a_listener_whose_settings_do_not_say_so_is_given_no_policy(scene: Scene) -> None:
    tables = [{"name": "https0", "port": scene.port, "addresses": (ADDRESS,)}]
    target = make(scene.nginx.settings(listeners=tables), make_parts())
    assert isinstance(target, VerifiesListenerClients)
    before = scene.tree()
    with pytest.raises(TargetRefused, match=rf"`{scene.include}` into all .*`verifies_clients = true`"):
        await target.verify_listener_clients(scene.key, make_policy(OURS))
    await target.verify_listener_clients(scene.key, None)
    assert scene.tree() == before


@pytest.mark.parametrize("block", [0, 1])
async def test_a_policy_is_refused_unless_every_server_block_includes_it(scene: Scene, block: int) -> None:
    lines = scene.nginx.conf.read_text().split(scene.include)
    assert len(lines) == 3
    scene.nginx.conf.write_text(
        scene.include.join(lines[:2]) + lines[2] if block else lines[0] + scene.include.join(lines[1:])
    )
    before = scene.tree()
    with pytest.raises(
        TargetRefused, match=rf"not check all.*`server` block at .*nginx\.conf:\d+ doesn't have `{scene.include}`"
    ):
        await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    assert scene.tree() == before
    assert await scene.see() == [True, True, True]
    (complaint,) = await scene.complaints()
    assert "doesn't have" in complaint


async def test_a_block_that_loses_the_include_later_is_found_by_the_next_call_and_the_check(scene: Scene) -> None:
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    assert await scene.complaints() == []
    scene.edit(scene.include, "")
    with pytest.raises(TargetRefused, match="doesn't have"):
        await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    assert len(await scene.complaints()) == 1


async def test_what_nginx_refuses_is_put_back_with_its_words(scene: Scene) -> None:
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    before = scene.tree()
    broken = make_policy(OURS, crls=["-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
    with pytest.raises(TargetRefused, match=r"nginx refuses its configuration: .*\.crl\"\) failed"):
        await scene.target.verify_listener_clients(scene.key, broken)
    assert scene.tree() == before
    assert await scene.see() == [False, False, True]


@pytest.mark.parametrize("own", ["ssl_verify_client off;", "ssl_trusted_certificate {folder}/fallback.pem;"])
async def test_lines_of_the_operators_own_in_a_server_block_are_refused_by_nginx(scene: Scene, own: str) -> None:
    scene.edit(scene.include, scene.include + " " + own.format(folder=scene.nginx.folder))
    with pytest.raises(TargetRefused, match=rf'"{own.split(maxsplit=1)[0]}" directive is duplicate'):
        await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    assert await scene.see() == [True, True, True]


async def test_a_check_of_the_operators_own_around_all_blocks_is_left_to_him(scene: Scene) -> None:
    theirs = scene.nginx.folder / "theirs.pem"
    theirs.write_text(pem(THEIRS.certificate))
    scene.nginx.extra.write_text(f"ssl_client_certificate {theirs};\nssl_verify_client on;\n")
    for _ in range(2):
        with pytest.raises(TargetRefused, match=r"extra\.conf:2 has ssl_verify_client for all `server` blocks"):
            await scene.target.verify_listener_clients(scene.key, make_policy(OURS, mode=OPTIONAL))
        await scene.target.verify_listener_clients(scene.key, None)


async def test_cas_that_the_operator_trusts_for_something_else_let_nobody_in(scene: Scene) -> None:
    theirs = scene.nginx.folder / "theirs.pem"
    theirs.write_text(pem(THEIRS.certificate))
    scene.nginx.extra.write_text(f"ssl_trusted_certificate {theirs};\n")
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    assert await scene.see() == [False, False, True]


async def test_a_test_command_that_can_not_show_the_configuration_is_not_enough(scene: Scene) -> None:
    wrapper = scene.nginx.folder / "test-nginx"
    wrapper.write_text(f"#!/bin/sh\nexec {scene.nginx.program} -t -c {scene.nginx.conf}\n")
    wrapper.chmod(0o755)
    target = make(scene.nginx.settings(test_command=(str(wrapper),)), make_parts())
    assert isinstance(target, NginxTarget)
    before = scene.tree()
    with pytest.raises(TargetRefused, match="test_command has no word -t"):
        await target.verify_listener_clients(scene.key, make_policy(OURS))
    assert scene.tree() == before
    assert [finding.what for finding in await target.check() if finding.grade is Grade.FAILED] == ["clients"]


async def test_a_bundle_without_a_root_would_let_nobody_in_and_is_refused(scene: Scene) -> None:
    root, key = OURS.certificate, make_key(index=711)
    middle = make_certificate(
        key=key,
        subject="CN=Middle",
        issuer=root,
        issuer_key=make_key(index=601),
        is_ca=True,
        now=root.not_valid_before_utc,
        days=3000,
    )
    policy = make_policy(OURS)
    alone = type(policy)(mode=policy.mode, bundle=policy.bundle, ca_pem=pem(middle), crl_pem="")
    with pytest.raises(TargetRefused, match="has no root"):
        await scene.target.verify_listener_clients(scene.key, alone)


async def test_clients_come_in_by_a_path_of_several_cas(scene: Scene, tmp_path: Path) -> None:
    root = OURS.certificate
    start, issuer, issuer_key, cas = root.not_valid_before_utc, root, make_key(index=601), [root]
    for number in range(4):  # nginx's own depth is 1
        key = make_key(index=720 + number)
        issuer = make_certificate(
            key=key,
            subject=f"CN=Middle {number}",
            issuer=issuer,
            issuer_key=issuer_key,
            is_ca=True,
            start=start,
            days=3000,
        )
        issuer_key = key
        cas.insert(0, issuer)
    key = make_key(index=730)
    leaf = make_certificate(key=key, subject="CN=deep", issuer=issuer, issuer_key=issuer_key, start=start)
    client = tmp_path / "deep.pem"
    client.write_text(write_key(key) + pem(leaf))
    policy = make_policy(OURS)
    deep = type(policy)(mode=policy.mode, bundle=policy.bundle, ca_pem=pem(*cas), crl_pem="")
    await scene.target.verify_listener_clients(scene.key, deep)
    assert (await gets_in(scene.port, NAME, client), await gets_in(scene.port, NAME)) == (True, False)


async def test_newer_lists_come_into_force_with_no_moment_open_or_closed(scene: Scene, tmp_path: Path) -> None:
    goodbye = OURS.issue(tmp_path, "goodbye")
    revoked = [one for one in OURS.issued if one.subject.rfc4514_string() == "CN=goodbye"]
    policies = [make_policy(OURS, crls=[OURS.list_revoked(*one)]) for one in ([], revoked)]
    await scene.target.verify_listener_clients(scene.key, policies[0])
    is_over, seen = asyncio.Event(), {"nobody": [True] * 0, "good": [True] * 0}

    async def knock(who: str, client: Path | None, name: str) -> None:
        while not is_over.is_set():
            seen[who].append(await gets_in(scene.port, name, client))

    knocking = [
        asyncio.create_task(knock(who, client, name))
        for who, client in (("nobody", None), ("good", scene.good))
        for name in (NAME, OTHER_NAME)
    ]
    for turn in range(SWAPS):
        await scene.target.verify_listener_clients(scene.key, policies[1 - turn % 2])
        # The reload is over when this returns: no worker of before answers a new connection.
        assert await gets_in(scene.port, NAME, goodbye) is bool(turn % 2)
        assert scene.policy_files() == [".ca", ".crl"]
    is_over.set()
    await asyncio.gather(*knocking)
    assert set(seen["nobody"]) == {False}
    assert set(seen["good"]) == {True}
    assert min(map(len, seen.values())) > SWAPS


async def test_a_policy_that_is_lifted_leaves_no_files_but_the_one_to_include(scene: Scene) -> None:
    before = scene.tree()
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS, crls=[OURS.list_revoked()]))
    assert scene.policy_files() == [".ca", ".crl"]
    await scene.target.verify_listener_clients(scene.key, None)
    assert scene.tree() == before
    assert await scene.see() == [True, True, True]


async def test_what_is_changed_by_hand_is_repaired_by_the_same_call(scene: Scene) -> None:
    policy = make_policy(OURS, crls=[OURS.list_revoked()])
    await scene.target.verify_listener_clients(scene.key, policy)
    before = scene.tree()
    lists = next((scene.home / f"https0-{scene.port}").glob("*.crl"))
    for file in (scene.clients, lists):
        for harm in (partial(file.write_text, "# mine\n"), file.unlink):
            harm()
            await scene.target.verify_listener_clients(scene.key, policy)
            assert scene.tree() == before
    assert await scene.see() == [False, False, True]


async def test_who_deletes_our_record_does_not_open_the_listener(scene: Scene) -> None:
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    (scene.home / f"https0-{scene.port}.conf").unlink()
    copy = await scene.target.install(bundle_of("www"), scope=scene.target.scope_of(scene.key), present=None)
    await scene.target.set_default(scene.key, copy)
    assert await scene.see() == [False, False, True]
    (scene.home / f"https0-{scene.port}.conf").unlink()
    scene.clients.write_text("# mine\n")
    with pytest.raises(TargetRefused, match="what its clients are checked by is not what Certorbit writes"):
        await scene.target.install(bundle_of("www", 2), scope=scene.target.scope_of(scene.key), present=None)


async def test_a_setting_that_is_taken_back_leaves_the_file_that_nginx_needs(scene: Scene) -> None:
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    tables = [{"name": "https0", "port": scene.port, "addresses": (ADDRESS,)}]
    target = make(scene.nginx.settings(listeners=tables), make_parts())
    assert isinstance(target, NginxTarget)
    await target.install(bundle_of("www", 2), scope=target.scope_of(scene.key), present=None)
    assert await scene.see() == [False, False, True]
    await target.verify_listener_clients(scene.key, None)
    assert await scene.see() == [True, True, True]
    assert scene.clients.exists()


async def test_a_listener_with_one_certificate_needs_no_second_include(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        scene = await open_scene(stack, tmp_path, sni=False)
        for mode_policy, expected in (
            (make_policy(OURS, crls=[OURS.list_revoked()]), [False, False, True]),
            (make_policy(OURS, mode=OPTIONAL), [True, False, True]),
        ):
            await scene.target.verify_listener_clients(scene.key, mode_policy)
            assert await scene.see() == expected
            assert await scene.see(OTHER_NAME) == expected
            assert await scene.complaints() == []
        (scene.home / f"https0-{scene.port}.server").unlink()
        copy = await scene.target.install(bundle_of("www"), scope=scene.target.scope_of(scene.key), present=None)
        await scene.target.set_default(scene.key, copy)
        assert await scene.see() == expected
        await scene.target.verify_listener_clients(scene.key, None)
        assert await scene.see() == [True, True, True]


def ask(
    port: int, name: str, context: ssl.SSLContext, *, host: str = "", session: ssl.SSLSession | None = None
) -> tuple[bool, bool, ssl.SSLSession | None]:
    """Return whether a request is answered, whether the session was resumed, and the session."""
    with (
        socket.create_connection((ADDRESS, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name, session=session) as secured,
    ):
        secured.sendall(f"GET / HTTP/1.0\r\nHost: {host or name}\r\n\r\n".encode())
        answer = b""
        while piece := secured.recv(4096):
            answer += piece
        return b" 200 " in answer, bool(secured.session_reused), secured.session


def keep_sessions(scene: Scene) -> None:
    """Let nginx resume sessions of before a reload: by a shared cache, and by tickets with a key of the operator's."""
    key = scene.nginx.folder / "ticket.key"
    key.write_bytes(os.urandom(80))
    scene.nginx.extra.write_text(f"ssl_session_cache shared:kept:1m;\nssl_session_ticket_key {key};\n")


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_a_session_that_was_begun_without_a_certificate_does_not_get_in(
    scene: Scene, newest: ssl.TLSVersion
) -> None:
    keep_sessions(scene)
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS, mode=OPTIONAL))
    context = make_context(newest=newest)
    answered, _, session = await asyncio.to_thread(ask, scene.port, NAME, context)
    assert answered
    _, resumed, _ = await asyncio.to_thread(ask, scene.port, NAME, context, session=session)
    assert resumed, "the test would show nothing"
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    for name in (NAME, OTHER_NAME, "third.example.com"):
        answered, _, _ = await asyncio.to_thread(ask, scene.port, name, context, session=session)
        assert not answered


async def test_a_session_of_a_client_that_is_revoked_ends_with_the_reload(scene: Scene, tmp_path: Path) -> None:
    """By nginx's defaults. docs/targets/nginx.md says what keeps sessions over a reload."""
    goodbye = OURS.issue(tmp_path, "goodbye")
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS, crls=[OURS.list_revoked()]))
    context = make_context(goodbye)
    answered, _, session = await asyncio.to_thread(ask, scene.port, NAME, context)
    assert answered
    revoked = make_policy(OURS, crls=[OURS.list_revoked(OURS.issued[-1])])
    await scene.target.verify_listener_clients(scene.key, revoked)
    assert (await asyncio.to_thread(ask, scene.port, NAME, context, session=session))[:2] == (False, False)


async def test_another_name_in_the_request_gets_nobody_in(scene: Scene) -> None:
    """An open `server` block of the operator's own on the same port is no way around."""
    port = scene.port
    fallback = scene.nginx.folder / "fallback.pem"
    scene.edit(
        "server { listen",
        f"server {{ listen {ADDRESS}:{port} ssl; server_name open.example.com; ssl_certificate {fallback};"
        f' ssl_certificate_key {fallback}; return 200 "open"; }}\nserver {{ listen',
    )
    await scene.target.verify_listener_clients(scene.key, make_policy(OURS))
    context = make_context()
    assert (await asyncio.to_thread(ask, port, "open.example.com", context))[0]
    for host in (NAME, OTHER_NAME):
        assert not (await asyncio.to_thread(ask, port, "open.example.com", context, host=host))[0]

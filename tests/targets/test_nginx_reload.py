"""nginx while certificates change under it, and when its configuration or its commands fail."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from certorbit.errors import CredentialsRefused, TargetFull, TargetRefused
from certorbit.model.balancer import Copy
from certorbit.ports.target import Grade, Target
from certorbit.targets.nginx import make
from targets.file_parts import bundle_of, key_of, leaf_of, make_parts, served_at, shake_hands
from targets.nginx_process import FALLBACK_NAME, RealNginx

SWAPS = 50


@dataclass
class Running:
    nginx: RealNginx
    target: Target

    def __post_init__(self) -> None:
        self.port = self.nginx.ports[0]
        self.key = key_of("web", "https0", self.port)
        self.scope = self.target.scope_of(self.key)

    async def put(
        self, entry: str, version: int = 1, *, target: Target | None = None, names: tuple[str, ...] = ()
    ) -> Copy:
        copy = await (target or self.target).install(
            bundle_of(entry, version, names=names), scope=self.scope, present=None
        )
        await (target or self.target).attach(self.key, copy, instead_of="")
        return copy

    def with_settings(self, **changes: object) -> Target:
        return make(self.nginx.settings(**changes), make_parts())

    def tree(self) -> dict[str, bytes]:
        """Return all of our files with their content."""
        home = self.nginx.folder / "certorbit"
        return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        nginx = RealNginx(stack, listeners=1)
        yield Running(nginx, await nginx.start(stack))


def script(folder: Path, name: str, text: str) -> tuple[str, ...]:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return (str(file),)


async def test_no_handshake_fails_while_certificates_are_swapped(running: Running) -> None:
    known = {leaf_of("www", version) for version in (1, 2)}
    await running.put("www", 1)
    is_over, seen, failed = asyncio.Event(), [], []

    async def connect_all_the_time() -> None:
        while not is_over.is_set():
            try:
                seen.append(await shake_hands(running.port, "www.example.com"))
            except (OSError, ssl.SSLError) as error:
                failed.append(repr(error))

    clients = [asyncio.create_task(connect_all_the_time()) for _ in range(4)]
    for turn in range(SWAPS):
        wanted = bundle_of("www", 2 - turn % 2)
        await running.target.install(wanted, scope=running.scope, present=None)
        # The reload is over when this returns: no worker of before answers a new connection.
        assert await shake_hands(running.port, "www.example.com") == wanted.facts.fingerprint
    is_over.set()
    await asyncio.gather(*clients)
    assert failed == []
    assert set(seen) == known
    assert len(seen) > SWAPS


async def test_a_configuration_that_somebody_else_broke_is_told_and_nothing_of_ours_changes(running: Running) -> None:
    await running.put("www", 1)
    running.nginx.extra.write_text("nonsense on;\n")
    before = running.tree()
    for version in (2, 3):
        with pytest.raises(
            TargetRefused, match=r'unknown directive "nonsense".*The previous files are back.*not this change'
        ):
            await running.target.install(bundle_of("www", version), scope=running.scope, present=None)
        assert running.tree() == before
    with pytest.raises(TargetRefused, match="nonsense"):
        await running.put("shop")
    findings = {finding.what: finding for finding in await running.target.check()}
    assert findings["configuration"].grade is Grade.FAILED
    assert "nonsense" in findings["configuration"].message
    assert await shake_hands(running.port, "www.example.com") == leaf_of("www")
    running.nginx.extra.write_text("")
    await running.target.install(bundle_of("www", 2), scope=running.scope, present=None)
    assert await shake_hands(running.port, "www.example.com") == leaf_of("www", 2)


async def test_what_our_files_alone_break_is_put_back(running: Running) -> None:
    await running.put("www", 1)
    before = running.tree()
    refusing = script(
        running.nginx.folder, "refuse", f"grep -q shop {running.nginx.folder}/certorbit/*.conf && exit 1\nexit 0"
    )
    target = running.with_settings(test_command=refusing)
    copy = await target.install(bundle_of("shop"), scope=running.scope, present=None)
    await target.detach(running.key, copy.handle)
    await target.remove(copy.handle)
    assert running.tree() == before


async def test_a_reload_that_fails_puts_the_old_files_back_and_loads_them(running: Running) -> None:
    await running.put("www", 1)
    log = running.nginx.folder / "reloads"
    once = script(
        running.nginx.folder, "once", f"echo x >> {log}\n[ $(wc -l < {log}) -gt 1 ] || {{ echo no luck; exit 3; }}"
    )
    target = running.with_settings(reload_command=once, pid_file="")
    before = running.tree()
    with pytest.raises(TargetRefused, match=r"can't be told to reload: no luck\.$"):
        await target.install(bundle_of("www", 2), scope=running.scope, present=None)
    assert running.tree() == before
    assert log.read_text() == "x\nx\n"  # the second time with the old files


async def test_a_reload_that_fails_for_good_is_made_up_for_by_the_next_call(running: Running) -> None:
    await running.put("www", 1)
    target = running.with_settings(reload_command=("false",))
    with pytest.raises(TargetRefused, match="with them it fails in the same way"):
        await target.install(bundle_of("www", 2), scope=running.scope, present=None)
    assert [name for name in running.tree() if name.endswith(".previous")]
    workers = (running.nginx.folder / "error.log").read_text().count("start worker process ")
    await running.target.install(bundle_of("www", 1), scope=running.scope, present=None)  # no news, but it loads
    assert (running.nginx.folder / "error.log").read_text().count("start worker process ") > workers
    assert [name for name in running.tree() if name.endswith(".previous")] == []


@pytest.mark.parametrize("which", ["test_command", "reload_command"])
async def test_a_command_that_hangs_is_killed_with_its_children(running: Running, which: str) -> None:
    await running.put("www", 1)
    pid = running.nginx.folder / "pid"
    hanging = script(running.nginx.folder, "hang", f"sleep 600 & echo $! > {pid}\nwait")
    target = running.with_settings(**{which: hanging, "timeout_seconds": 2.0})
    with pytest.raises(TargetRefused, match=r"did not end within 2 s and was killed"):
        await target.install(bundle_of("www", 2), scope=running.scope, present=None)
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"
    assert await shake_hands(running.port, "www.example.com") == leaf_of("www")


async def test_a_reload_that_nginx_does_not_carry_out_is_found_out(running: Running) -> None:
    await running.put("www", 1)
    target = running.with_settings(test_command=("true",), reload_command=("true",), timeout_seconds=2.0)
    with pytest.raises(TargetRefused, match="workers of before are still serving"):
        await target.install(bundle_of("www", 2), scope=running.scope, present=None)


async def test_a_command_that_may_not_be_run_or_is_not_there(running: Running) -> None:
    await running.put("www", 1)
    closed = running.nginx.folder / "closed"
    closed.write_text("#!/bin/sh\n")
    closed.chmod(0o644)
    with pytest.raises(CredentialsRefused, match="we may not run"):
        await running.with_settings(test_command=(str(closed),)).install(
            bundle_of("www", 2), scope=running.scope, present=None
        )
    with pytest.raises(TargetRefused, match="can't be run: No such file"):
        await running.with_settings(test_command=("/nowhere/nginx",)).install(
            bundle_of("www", 2), scope=running.scope, present=None
        )


async def test_every_kind_of_name_gets_its_certificate(running: Running) -> None:
    long = "a" * 44 + ".names.example.org"  # longer than a hash bucket of nginx, and than most names
    served = {
        name: leaf_of(entry, 1, names=names)
        for entry, names, name in (
            ("wild", ("*.example.org",), "www.example.org"),
            ("wild", ("*.example.org",), "WWW2.EXAMPLE.ORG"),
            ("apex", ("example.org", "shop.example.org"), "shop.example.org"),
            ("apex", ("example.org", "shop.example.org"), "example.org"),
            ("long", (long,), long),
            ("longwild", ("*.names.example.org",), "b.names.example.org"),
            ("odd", ("include", "default", "volatile", "hostnames"), "include"),
            ("odd", ("include", "default", "volatile", "hostnames"), "default"),
            ("odd", ("include", "default", "volatile", "hostnames"), "hostnames"),
        )
    }
    await running.put("apex", names=("example.org", "shop.example.org"))
    await running.put("long", names=(long,))
    await running.put("longwild", names=("*.names.example.org",))
    await running.put("wild", names=("*.example.org",))
    await running.put("odd", names=("include", "default", "volatile", "hostnames"))
    for name, fingerprint in served.items():
        assert await shake_hands(running.port, name) == fingerprint, name
    fallback = await shake_hands(running.port, FALLBACK_NAME)
    assert fallback not in served.values()
    assert await shake_hands(running.port, "deep.www.example.org") == fallback  # a wildcard covers one label
    assert await shake_hands(running.port, "") == fallback


async def test_names_that_are_no_names_never_get_into_the_configuration(running: Running) -> None:
    bundle = bundle_of("www")
    hostile = ('x" "y"; } evil {', "a\nb", "$host", "~.*", "*", "a..b", "-a.b", "..", "ok.example.com", "192.0.2.1")
    bundle = replace(bundle, facts=replace(bundle.facts, san=hostile))
    copy = await running.target.install(bundle, scope=running.scope, present=None)
    await running.target.attach(running.key, copy, instead_of="")
    text = (running.nginx.folder / f"certorbit/https0-{running.port}.conf").read_text()
    assert "ok.example.com" in text
    assert not any(word in text for word in ("evil", "$host", "~.*", "a..b"))
    assert await shake_hands(running.port, "ok.example.com") == bundle.facts.fingerprint


async def test_of_two_certificates_with_one_name_the_later_one_is_served(running: Running) -> None:
    await running.put("first", names=("www.example.com",))
    second = await running.put("second", names=("www.example.com",))
    assert await shake_hands(running.port, "www.example.com") == leaf_of("second", names=("www.example.com",))
    await running.target.detach(running.key, second.handle)
    assert await shake_hands(running.port, "www.example.com") == leaf_of("first", names=("www.example.com",))


async def test_a_full_listener_is_told_before_anything_is_changed(running: Running) -> None:
    tables = [{"name": "https0", "port": running.port, "addresses": ("127.0.0.1",), "max_certificates": 1}]
    target = running.with_settings(listeners=tables)
    await running.put("www", target=target)
    copy = await target.install(bundle_of("shop"), scope=running.scope, present=None)
    before = running.tree()
    with pytest.raises(TargetFull, match="takes 1 certificates"):
        await target.attach(running.key, copy, instead_of="")
    assert running.tree() == before


async def test_what_is_changed_by_hand_is_seen_and_repaired(running: Running) -> None:
    copy = await running.put("www")
    include = running.nginx.folder / f"certorbit/https0-{running.port}.conf"
    lines = include.read_text().splitlines()
    include.write_text("\n".join(line for line in lines if 'www.example.com" ' not in line) + "\n")
    assert not (await running.target.look(running.key)).holds(copy.handle)
    await running.put("www")
    assert (await running.target.look(running.key)).holds(copy.handle)
    for file in Path(copy.handle).iterdir():
        file.unlink()
    assert not (await running.target.look(running.key)).holds(copy.handle)
    assert await served_at(running.port, "www.example.com") == ""
    await running.put("www")
    assert await shake_hands(running.port, "www.example.com") == leaf_of("www")
    include.write_text("# mine\n")
    with pytest.raises(TargetRefused, match="was changed by somebody else"):
        await running.put("www", 2)
    assert include.read_text() == "# mine\n"


async def test_the_check_says_what_is_missing(running: Running) -> None:
    good = running.nginx.conf.read_text()
    running.nginx.conf.write_text(good.replace("include " + str(running.nginx.folder / "certorbit"), "# "))
    text = running.nginx.conf.read_text()
    for block in ("ssl_certificate $", "ssl_certificate_key $"):
        text = text.replace(
            f"{block}certorbit_https0_{running.port}", block[:-1] + str(running.nginx.folder / "fallback.pem")
        )
    running.nginx.conf.write_text(text)
    findings = {finding.what: finding for finding in await running.target.check()}
    assert findings["configuration"].grade is Grade.FAILED
    assert "Add `include " in findings["configuration"].message
    running.nginx.conf.write_text(good)
    unreadable = running.with_settings(owner="", mode="0600", pid_file=str(running.nginx.folder / "nginx.pid"))
    workers = {finding.what: finding for finding in await unreadable.check()}["workers read"]
    # Run by root, nginx's workers are nobody; else they are the user that the files belong to.
    assert workers.grade is (Grade.FAILED if os.geteuid() == 0 else Grade.OK)
    blind = running.with_settings(pid_file="")
    assert {finding.what: finding.grade for finding in await blind.check()}["reach"] is Grade.WARNING


async def test_two_processes_take_turns(running: Running) -> None:
    other = running.with_settings()  # its lock in memory is another one: the lock on the disk counts
    await asyncio.gather(
        *(running.put(f"a{number}", target=running.target) for number in range(3)),
        *(running.put(f"b{number}", target=other) for number in range(3)),
    )
    held = await running.target.look(running.key)
    assert len(held.certificates) == 6
    for entry in ("a0", "a2", "b0", "b2"):
        assert await shake_hands(running.port, f"{entry}.example.com") == leaf_of(entry)

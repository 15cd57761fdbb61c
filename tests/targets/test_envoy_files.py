"""Mode `files`: what is written, how it comes into place, and what happens when somebody else meddles."""

import asyncio
import errno
import fcntl
import grp
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from certorbit.errors import CredentialsRefused, LostRace, TargetRefused
from certorbit.model.balancer import Bundle, Copy
from certorbit.ports.target import Grade, ShelfItem
from certorbit.targets.envoy.file_shelf import FileShelf
from certorbit.targets.envoy.private_files import translate_errors
from certorbit.targets.envoy.target import EnvoyTarget
from targets.envoy_bench import HTTPS, SECRETS, make_settings, make_target, start_with_files
from targets.envoy_process import shake_hands
from targets.target_bench import make_bundle

WWW, NEWER, SHOP = make_bundle("www"), make_bundle("www", 2), make_bundle("shop", 3)
ALL_FILES = {f"{secret}.json" for secrets in SECRETS.values() for secret in secrets}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.mkdir()
    return path


def open_target(directory: Path, **more) -> EnvoyTarget:
    return make_target(make_settings(mode="files", directory=str(directory), **more))


async def put_on(target: EnvoyTarget, bundle: Bundle = WWW) -> Copy:
    copy = await target.install(bundle, scope=target.scope_of(HTTPS), present=None)
    await target.attach(HTTPS, copy, instead_of="")
    return copy


def chain_in(path: Path) -> str:
    (resource,) = json.loads(path.read_text())["resources"]
    return str(resource["tls_certificate"]["certificate_chain"]["inline_string"])


def files_in(directory: Path) -> dict[str, tuple[int, str]]:
    """Return each file with its inode and text: a file that was written again has another inode."""
    return {path.name: (path.stat().st_ino, path.read_text()) for path in directory.glob("*.json")}


async def test_the_start_writes_a_file_for_each_secret_so_that_envoy_can_open(directory: Path) -> None:
    await open_target(directory).start()
    assert {path.name for path in directory.iterdir()} == {*ALL_FILES, ".certorbit"}
    assert chain_in(directory / "https-default.json") == chain_in(directory / "https-1.json")


async def test_another_start_writes_nothing_again(directory: Path) -> None:
    await put_on(open_target(directory))
    before = files_in(directory)
    again = open_target(directory)
    await again.start()
    await put_on(again)
    assert files_in(directory) == before


async def test_a_new_version_writes_the_files_of_its_slot_alone(directory: Path) -> None:
    target = open_target(directory)
    await put_on(target)
    before = files_in(directory)
    await target.install(NEWER, scope=target.scope_of(HTTPS), present=None)
    after = files_in(directory)
    assert {name for name in after if after[name] != before[name]} == {"https-1.json"}
    assert chain_in(directory / "https-1.json") == NEWER.chain_pem


async def test_what_is_on_the_shelf_survives_the_process(directory: Path) -> None:
    copy = await put_on(open_target(directory))
    again = open_target(directory)
    assert (await again.look(HTTPS)).certificates == (copy.handle,)
    assert await again.list_copies() == {copy.handle: WWW.facts.fingerprint}


@pytest.mark.parametrize(("given", "mode"), [("0640", 0o640), ("600", 0o600)])
async def test_files_have_the_mode_and_group_of_the_settings(directory: Path, given: str, mode: int) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    await put_on(open_target(directory, file_mode=given, file_group=group))
    for name in ALL_FILES:
        seen = (directory / name).stat()
        assert (seen.st_mode & 0o777, seen.st_gid) == (mode, os.getgid())
    state = directory / ".certorbit"
    assert state.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in state.iterdir()} == {0o600}


async def test_another_mode_in_the_settings_is_put_in_force(directory: Path) -> None:
    await put_on(open_target(directory))
    await open_target(directory, file_mode="0600").start()
    assert (directory / "https-1.json").stat().st_mode & 0o777 == 0o600


async def test_no_half_written_file_is_left(directory: Path) -> None:
    target = open_target(directory)
    await put_on(target)
    await target.set_default(HTTPS, await put_on(target, SHOP))
    assert {path.name for path in directory.iterdir()} == {*ALL_FILES, ".certorbit"}
    assert {path.name for path in (directory / ".certorbit").iterdir()} == {"shelf.json", "lock", "placeholder.json"}


@pytest.mark.parametrize("text", [None, "", "{}", "somebody else's"])
async def test_a_file_that_somebody_changed_shows_as_not_held_and_is_repaired(
    directory: Path, text: str | None
) -> None:
    target = open_target(directory)
    copy = await put_on(target)
    path = directory / "https-1.json"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert not (await target.look(HTTPS)).holds(copy.handle)
    assert await target.check()  # A look changes nothing.
    assert not (await target.look(HTTPS)).holds(copy.handle)
    await target.attach(HTTPS, copy, instead_of="")
    assert chain_in(path) == WWW.chain_pem
    assert (await target.look(HTTPS)).holds(copy.handle)


async def test_a_crash_between_shelf_and_files_is_made_good_by_the_repeat(directory: Path) -> None:
    target = open_target(directory)
    copy = await put_on(target)
    shelf = FileShelf(make_settings(mode="files", directory=str(directory)))
    state = await shelf.load()
    await shelf.change(at=state.revision, put=[ShelfItem(name=copy.handle, bundle=NEWER)])
    again = open_target(directory)
    await again.install(NEWER, scope=again.scope_of(HTTPS), present=copy)
    assert chain_in(directory / "https-1.json") == NEWER.chain_pem


async def test_a_shelf_that_is_not_ours_is_reported_and_left_alone(directory: Path) -> None:
    target = open_target(directory)
    await put_on(target)
    shelf = directory / ".certorbit" / "shelf.json"
    for text in ("", "[]", '{"revision": 1, "slots": {}, "items": [{}]}', '{"revision": 1, "items": [], "slots": []}'):
        shelf.write_text(text)
        with pytest.raises(TargetRefused, match=r"shelf\.json"):
            await put_on(target)
        assert shelf.read_text() == text
    (finding,) = await target.check()
    assert finding.grade is Grade.FAILED


async def test_a_missing_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    target = open_target(tmp_path / "nowhere")
    for call in (target.start(), target.look(HTTPS), put_on(target)):
        with pytest.raises(TargetRefused, match="nowhere"):
            await call
    (finding,) = await target.check()
    assert finding.grade is Grade.FAILED


async def test_an_unknown_group_is_an_error_that_names_it(directory: Path) -> None:
    target = open_target(directory, file_group="no-such-group")
    with pytest.raises(TargetRefused, match="no-such-group"):
        await target.start()
    assert [one.grade for one in await target.check()] == [Grade.OK, Grade.FAILED]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_directory_that_is_not_ours_needs_rights(directory: Path) -> None:
    directory.chmod(0o500)
    target = open_target(directory)
    with pytest.raises(CredentialsRefused, match=str(directory)):
        await target.start()


def test_a_right_that_is_missing_is_named(directory: Path) -> None:
    with (
        pytest.raises(CredentialsRefused, match=r"/x/shelf\.json.*file_group"),
        translate_errors("edge", directory),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "/x/shelf.json")


async def test_two_processes_do_not_lose_each_others_changes(directory: Path) -> None:
    targets = [open_target(directory) for _ in range(4)]
    await targets[0].start()
    bundles = [make_bundle(f"app-{number}", number) for number in range(1, 4)]
    copies = await asyncio.gather(*(put_on(target, one) for target, one in zip(targets, bundles, strict=False)))
    listener = await targets[3].look(HTTPS)
    assert sorted(listener.certificates) == sorted(copy.handle for copy in copies)


async def test_a_shelf_in_use_by_another_process_is_a_lost_race(directory: Path) -> None:
    await put_on(open_target(directory))
    shelf = FileShelf(make_settings(mode="files", directory=str(directory)))
    state = await shelf.load()
    with (directory / ".certorbit" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LostRace):
            await shelf.change(at=state.revision, slots={"https-2": "x"})
    with pytest.raises(LostRace):
        await shelf.change(at=state.revision - 1, slots={"https-2": "x"})
    assert await shelf.load() == state


async def test_fifty_swaps_of_files_under_a_constant_load_cost_no_handshake(
    stack: AsyncExitStack, tmp_path: Path
) -> None:
    bench, envoy = await start_with_files(tmp_path, stack)
    target = bench.target
    assert isinstance(target, EnvoyTarget)
    await put_on(target)
    assert await bench.served(HTTPS, "www.example.com") == WWW.facts.fingerprint
    port = await envoy.wait_for_listener("https")
    stop, made = asyncio.Event(), 0

    async def load() -> None:
        nonlocal made
        while not stop.is_set():
            await shake_hands(port, "www.example.com")
            made += 1

    runners = [asyncio.create_task(load()) for _ in range(4)]
    for swap in range(50):
        version = (NEWER, WWW)[swap % 2]
        await target.install(version, scope=target.scope_of(HTTPS), present=None)
        assert await bench.served(HTTPS, "www.example.com") == version.facts.fingerprint
    stop.set()
    await asyncio.gather(*runners)
    assert made > 50

"""Folders that the service's user may not write in: the check finds each, and the message names what was refused."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from certorbit.errors import CredentialsRefused, TargetRefused
from certorbit.ports.target import Grade
from certorbit.target_settings.haproxy import HAProxyTargetSettings
from certorbit.targets.directory import make
from certorbit.targets.haproxy.disk import Disk
from targets.file_parts import bundle_of, make_parts
from targets.haproxy_scene import open_scene
from targets.target_bench import make_bundle
from targets.test_directory_files import settings_for

NOBODY = 65534
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that is another user's")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user without rights until the block ends: all threads of the process are."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that everybody may enter, which pytest's own are not, and that nobody's user owns."""
    with TemporaryDirectory(prefix="certorbit-rights-") as name:
        Path(name).chmod(0o755)
        home = Path(name) / "certorbit"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)
        yield home


def disk_in(folder: Path, **changes: object) -> Disk:
    table = {"name": "https", "crt_list": str(folder / "lists" / "https.crtlist")}
    values = {"type": "haproxy", "name": "edge", "socket": "/s", "directory": str(folder), "host": "h"}
    return Disk(HAProxyTargetSettings.model_validate({**values, "listeners": [table], **changes}))


@NEEDS_ROOT
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=oct)
def test_a_listeners_folder_of_another_user_is_found_and_named(folder: Path, mode: int) -> None:
    disk = disk_in(folder)
    (folder / "https").mkdir(mode=mode)  # root's, as the page's second step may make it
    named = rf"we may not read or write {re.escape(str(folder))}/https \("
    with as_nobody():
        disk.try_writing()
        with pytest.raises(CredentialsRefused, match=named):
            disk.try_writing_beside("https")
        with pytest.raises(CredentialsRefused, match=named):
            disk.write(f"{folder}/https/prod.shop.pem", "")


@NEEDS_ROOT
def test_a_folder_in_which_nothing_may_be_made_is_named_not_what_should_be_made(folder: Path) -> None:
    disk = disk_in(folder)
    os.chown(folder, 0, 0)
    with as_nobody():
        assert not disk.try_writing_beside("https"), "there is none, so that is no question of its rights"
        for attempt in (disk.try_writing, lambda: disk.write(f"{folder}/https/prod.shop.pem", "")):
            with pytest.raises(CredentialsRefused, match=rf"write {re.escape(str(folder))} \(Permission denied\)"):
                attempt()


@NEEDS_ROOT
def test_a_file_that_may_not_be_read_is_named(folder: Path) -> None:
    (folder / "https").mkdir()
    os.chown(folder / "https", NOBODY, NOBODY)
    file = folder / "https" / "default.pem"
    file.touch(mode=0o600)
    with as_nobody(), pytest.raises(CredentialsRefused, match=rf"write {re.escape(str(file))} \(Permission denied\)"):
        disk_in(folder).read(str(file))


@NEEDS_ROOT
def test_an_owner_that_may_not_be_given_is_said_of_what_should_get_it(folder: Path) -> None:
    with (
        as_nobody(),
        pytest.raises(CredentialsRefused, match=r"/https \(setting its owner, group or mode: Operation not"),
    ):
        disk_in(folder, owner="root").write(f"{folder}/https/prod.shop.pem", "")


@NEEDS_ROOT
async def test_a_directory_target_tries_each_listeners_folder(folder: Path) -> None:
    target = make(settings_for(folder.parent, directory=str(folder)), make_parts())
    assert {found.grade for found in await target.check()} == {Grade.OK}
    os.chown(folder / ".lock", NOBODY, NOBODY)
    os.chown(folder / "mail-993", 0, 0)
    with as_nobody():
        (found,) = [each for each in await target.check() if each.grade is Grade.FAILED]
        assert f"may not read or write {folder}/mail-993 (" in found.message
        with pytest.raises(CredentialsRefused, match=rf"write {re.escape(str(folder))}/mail-993 \("):
            await target.install(bundle_of("www"), scope="mail-993", present=None)


async def test_the_check_of_a_real_haproxy_fails_where_attaching_would(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        assert await scene.complaints() == []
        place = scene.default_file.parent
        written = [found.message for found in await scene.target.check() if found.what == "write"]
        assert f"{place} can be written." in written
        place.rename(place.with_name("moved"))
        place.symlink_to("moved")  # HAProxy reads through it; we don't
        (failed,) = [found for found in await scene.target.check() if found.grade is Grade.FAILED]
        assert (failed.what, f"writing in {place} failed" in failed.message) == ("write", True)
        with pytest.raises(TargetRefused, match=rf"writing in {re.escape(str(place))} failed"):
            await scene.install(make_bundle("www"))

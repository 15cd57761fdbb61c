"""kill -9 before every single action of a change: readers never see half, and the next call puts all in order."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from certorbit.target_settings.directory import DirectoryTargetSettings
from certorbit.targets.directory import make
from targets.crash_child import CrashRunner, change
from targets.directory_bench import leaf_in, served_from
from targets.file_parts import key_of, make_parts
from targets.target_bench import make_bundle

pytestmark = pytest.mark.crash
KEY = key_of("files", "mail", 993)
CHANGE = [["install", "www", 2], ["attach", "www"], ["install", "shop", 1], ["attach", "shop"]]
START = [["install", "www", 1], ["set_default", "www"]]
MOST_ACTIONS = 200


def make_settings(folder: Path) -> DirectoryTargetSettings:
    # The command notes what a program would load at that moment.
    note = f"readlink {folder}/out/mail-993/live/prod/www >> {folder}/loaded"
    return DirectoryTargetSettings.model_validate(
        {
            "type": "directory",
            "name": "files",
            "directory": str(folder / "out"),
            "command": ("sh", "-c", note),
            "host": "127.0.0.1",
            "listeners": [{"name": "mail", "port": 993}],
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: what SIGKILL leaves behind doesn't depend on the disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as made:
        yield Path(made)


@pytest.fixture
def settings(folder: Path) -> DirectoryTargetSettings:
    return make_settings(folder)


@pytest.fixture
def runner(settings: DirectoryTargetSettings) -> Iterator[CrashRunner]:
    with ExitStack() as stack:
        yield CrashRunner(settings, stack)


def fingerprint(entry: str, version: int) -> str:
    """Return the name of the version's folder; the runner has keys of its own, so names are compared, not keys."""
    return make_bundle(entry, version).facts.fingerprint


def loaded(folder: Path) -> str:
    """Return the fingerprint that the command saw last."""
    return (folder / "loaded").read_text().split()[-1].rsplit("/", 1)[-1]


async def crash_everywhere(
    runner: CrashRunner, folder: Path, settings: Any, repeat: list[list[Any]], *, step: int = 1
) -> int:
    """Kill the change before every `step`-th action, each time from the same start; after each, look and run `repeat`."""
    await change(make(settings, make_parts()), START)
    shutil.copytree(folder / "out", folder / "start", symlinks=True)
    for turn in range(1, MOST_ACTIONS, step):
        shutil.rmtree(folder / "out")
        shutil.copytree(folder / "start", folder / "out", symlinks=True)
        was_killed = runner.run(CHANGE, kill_at=turn)
        link = folder / "out/mail-993/live/prod/www"
        assert leaf_in(link / "fullchain.pem") == link.resolve().name  # whole, of one version
        again = make(settings, make_parts())
        await change(again, repeat)
        held = await again.look(KEY)
        assert held.default.endswith("/prod/www")
        assert served_from(folder / "out", KEY, "www.example.com") == fingerprint("www", repeat[0][2])
        assert loaded(folder) == fingerprint("www", repeat[0][2])
        assert (await again.list_copies())[held.default] == fingerprint("www", repeat[0][2])
        leftovers = {path.name for path in (folder / "out").rglob("*") if path.name.endswith((".new", ".previous"))}
        assert leftovers <= {".manifest.json.previous.new"}  # no keys in it, and the next change writes over it
        if not was_killed:
            return turn
    raise AssertionError("the change never came to its end")


async def test_the_same_change_again_ends_well(
    runner: CrashRunner, folder: Path, settings: DirectoryTargetSettings
) -> None:
    assert await crash_everywhere(runner, folder, settings, CHANGE) > 30


async def test_going_back_instead_ends_well(
    runner: CrashRunner, folder: Path, settings: DirectoryTargetSettings
) -> None:
    assert await crash_everywhere(runner, folder, settings, START, step=3) > 30

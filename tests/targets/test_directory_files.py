"""What a directory target writes, with which rights, and what becomes of it when the command or the disk fails."""

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from certorbit.errors import TargetGone, TargetRefused
from certorbit.model.balancer import Copy
from certorbit.ports.target import Grade, Target
from certorbit.target_settings.directory import DirectoryTargetSettings
from certorbit.targets.directory import make
from targets.directory_bench import served_from
from targets.file_parts import bundle_of, key_of, leaf_of, make_parts

KEY = key_of("files", "mail", 993)
PATH = "mail-993/live/prod/www"


def settings_for(folder: Path, **changes: Any) -> DirectoryTargetSettings:
    values = {
        "type": "directory",
        "name": "files",
        "directory": str(folder / "out"),
        "host": "127.0.0.1",
        "listeners": [{"name": "mail", "port": 993}],
    }
    return DirectoryTargetSettings.model_validate({**values, **changes})


def target_for(folder: Path, **changes: Any) -> Target:
    return make(settings_for(folder, **changes), make_parts())


async def put(target: Target, entry: str = "www", version: int = 1) -> Copy:
    copy = await target.install(bundle_of(entry, version), scope="mail-993", present=None)
    await target.attach(KEY, copy, instead_of="")
    return copy


def everything(folder: Path) -> dict[str, str]:
    """Return all files and links with what is in them."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that nothing may be written to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


async def test_the_files_of_a_certificate(tmp_path: Path) -> None:
    target = target_for(tmp_path, files={"combined": "all.pem", "chain": ""}, mode="0640")
    await put(target)
    live, bundle = tmp_path / "out" / PATH, bundle_of("www")
    assert {path.name for path in live.iterdir()} == {"privkey.pem", "cert.pem", "fullchain.pem", "all.pem"}
    assert (live / "privkey.pem").read_text() == bundle.key.reveal()
    assert (live / "fullchain.pem").read_text() == bundle.chain_pem
    assert (live / "all.pem").read_text() == bundle.chain_pem + bundle.key.reveal()
    assert (live / "cert.pem").read_text().count("BEGIN CERTIFICATE") == 1
    assert bundle.chain_pem.startswith((live / "cert.pem").read_text())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in live.iterdir()}
    assert modes == {"privkey.pem": 0o640, "all.pem": 0o640, "cert.pem": 0o644, "fullchain.pem": 0o644}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*") if path.is_dir()}
    assert folders == {0o750}


async def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    target = target_for(tmp_path)
    copy = await put(target)
    await target.set_default(KEY, copy)
    manifest = json.loads((tmp_path / "out/mail-993/manifest.json").read_text())
    assert manifest["default"] == "prod/www"
    assert manifest["copies"]["prod/www"] == {
        "version": "www-version-1",
        "fingerprint": leaf_of("www"),
        "names": ["www.example.com"],
    }
    assert "PRIVATE" not in json.dumps(manifest)


async def test_the_command_runs_once_for_a_change_and_not_for_a_repeat(tmp_path: Path) -> None:
    log = tmp_path / "log"
    target = target_for(tmp_path, command=("sh", "-c", f"echo $TARGET_NAME $TARGET_FOLDER >> {log}"))
    copy = await put(target)
    await put(target)
    assert log.read_text() == f"files {tmp_path}/out/mail-993\n"  # for attach: nothing is served by install alone
    await target.install(bundle_of("www", 2), scope="mail-993", present=copy)
    assert len(log.read_text().splitlines()) == 2


async def test_a_failing_command_puts_the_old_files_back_and_runs_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    await put(target_for(tmp_path))
    before = everything(tmp_path / "out")
    refuse_new = (
        f"readlink {tmp_path}/out/{PATH} >> {log}; grep -c . {log} | grep -qx 2 || {{ echo bad luck; exit 7; }}"
    )
    target = target_for(tmp_path, command=("sh", "-c", refuse_new))
    with pytest.raises(TargetRefused, match=r"'sh' failed with status 7: bad luck$"):
        await target.install(bundle_of("www", 2), scope="mail-993", present=None)
    assert everything(tmp_path / "out") == before
    assert [line.rsplit("/", 1)[-1] for line in log.read_text().splitlines()] == [leaf_of("www", 2), leaf_of("www", 1)]


async def test_a_hanging_command_is_killed_and_the_old_files_come_back(tmp_path: Path) -> None:
    await put(target_for(tmp_path))
    target = target_for(tmp_path, command=("sleep", "600"), timeout_seconds=0.3)
    with pytest.raises(TargetRefused, match=r"did not end within 0\.3 s"):
        await target.install(bundle_of("www", 2), scope="mail-993", present=None)
    assert served_from(tmp_path / "out", KEY, "www.example.com") == leaf_of("www", 1)
    # What the command did with the new files isn't known, so the next change runs it whatever it is.
    log = tmp_path / "log"
    again = target_for(tmp_path, command=("sh", "-c", f"echo ran >> {log}"))
    await again.install(bundle_of("www", 1), scope="mail-993", present=None)
    assert log.read_text() == "ran\n"


async def test_no_words_of_a_command_show_a_key(tmp_path: Path) -> None:
    await put(target_for(tmp_path))
    for shown in (f"cat {tmp_path}/out/{PATH}/privkey.pem", f"grep -v PRIVATE {tmp_path}/out/{PATH}/privkey.pem"):
        target = target_for(tmp_path, command=("sh", "-c", f"{shown}; exit 1"))
        with pytest.raises(TargetRefused) as caught:
            await target.install(bundle_of("www", 2), scope="mail-993", present=None)
        for key in (bundle_of("www", version).key.reveal() for version in (1, 2)):
            assert not any(line[:24] in caught.value.message for line in key.splitlines()[1:-1])


async def test_commands_do_not_see_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERTORBIT_BOOTSTRAP_API_KEY", "a secret of the service")
    await put(target_for(tmp_path, command=("sh", "-c", f"env > {tmp_path}/env")))
    assert "a secret" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("part", ["mail-993", "mail-993/live", "mail-993/live/prod", "mail-993/copies"])
async def test_a_folder_that_is_a_symlink_is_not_followed(tmp_path: Path, outside: Path, part: str) -> None:
    link = tmp_path / "out" / part
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    with pytest.raises(TargetRefused, match=r"writing in .* failed"):
        await put(target_for(tmp_path))


async def test_a_file_that_is_a_symlink_is_replaced_not_written_through(tmp_path: Path) -> None:
    target = target_for(tmp_path)
    copy = await put(target)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    version = (tmp_path / "out" / PATH).resolve()
    for name in ("privkey.pem", ".privkey.pem.new"):
        (version / name).unlink(missing_ok=True)
        (version / name).symlink_to(victim)
    with pytest.raises(TargetRefused):  # reading it is refused as well
        await target.install(bundle_of("www"), scope="mail-993", present=copy)
    (version / "privkey.pem").unlink()
    await target.install(bundle_of("www"), scope="mail-993", present=copy)
    assert victim.read_text() == "mine"
    assert not (version / "privkey.pem").is_symlink()


@pytest.mark.parametrize(
    "handle",
    [
        "{root}/../outside/prod/www",
        "{root}/mail-993/live/../../www",
        "../www",
        "/etc/passwd",
        "",
        "{root}/mail-993/live/prod/www/",
    ],
)
async def test_a_foreign_handle_removes_nothing(tmp_path: Path, handle: str) -> None:
    target = target_for(tmp_path)
    copy = await put(target)
    await target.detach(KEY, copy.handle)
    before = everything(tmp_path / "out")
    await target.remove(handle.format(root=tmp_path / "out"))
    assert everything(tmp_path / "out") == before
    with pytest.raises(TargetGone):
        await target.attach(KEY, Copy(handle=handle.format(root=tmp_path / "out"), link=""), instead_of="")


async def test_a_configuration_whose_name_is_no_folder_name_is_refused(tmp_path: Path) -> None:
    for name in ("..", "a/b", "", "a\n"):
        bundle = replace(bundle_of("www"), config=name)
        with pytest.raises(TargetRefused, match="configuration's name"):
            await target_for(tmp_path).install(bundle, scope="mail-993", present=None)
    assert not (tmp_path / "out").exists()


async def test_removing_leaves_no_key_behind(tmp_path: Path) -> None:
    target = target_for(tmp_path)
    copy = await put(target)
    for version in (2, 3, 1):
        await target.install(bundle_of("www", version), scope="mail-993", present=copy)
    await target.detach(KEY, copy.handle)
    await target.remove(copy.handle)
    assert list((tmp_path / "out").rglob("*.pem")) == []


async def test_only_the_present_version_and_the_one_before_stay(tmp_path: Path) -> None:
    target = target_for(tmp_path)
    for version in (1, 2, 3):
        await put(target, version=version)
    versions = {path.name for path in (tmp_path / "out/mail-993/copies/prod/www").iterdir()}
    assert versions <= {leaf_of("www", 2), leaf_of("www", 3)}
    assert leaf_of("www", 3) in versions


@pytest.mark.parametrize("damage", ["not json", "{}", '{"default": "prod/x", "attached": [], "copies": {}}', "[]"])
async def test_a_manifest_that_is_not_ours_is_left_alone(tmp_path: Path, damage: str) -> None:
    target = target_for(tmp_path)
    await put(target)
    manifest = tmp_path / "out/mail-993/manifest.json"
    manifest.write_text(damage)
    assert (await target.look(KEY)).handles == ()
    with pytest.raises(TargetRefused, match="was changed by somebody else"):
        await put(target, version=2)
    assert manifest.read_text() == damage


async def test_damaged_files_are_not_shown_as_held_and_are_repaired(tmp_path: Path) -> None:
    target = target_for(tmp_path)
    copy = await put(target)
    (tmp_path / "out" / PATH / "fullchain.pem").write_text("nothing")
    assert not (await target.look(KEY)).holds(copy.handle)
    assert (await target.list_copies())[copy.handle] == ""
    await put(target)
    assert (await target.look(KEY)).holds(copy.handle)
    assert served_from(tmp_path / "out", KEY, "www.example.com") == leaf_of("www")


async def test_an_unknown_group_or_command_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetRefused, match="no user or group of that name"):
        await put(target_for(tmp_path, group="no-such-group"))
    findings = await target_for(tmp_path, command=("no-such-program",)).check()
    assert [finding.grade for finding in findings] == [Grade.OK, Grade.FAILED]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "0644"},
        {"mode": "4640"},
        {"directory": "relative/path"},
        {"directory": "/a/../b"},
        {"directory": '/a";evil'},
        {"files": {"key": "../key.pem"}},
        {"files": {"key": "x.pem", "combined": "x.pem"}},
        {"files": {"fullchain": "", "certificate": "", "combined": ""}},
        {"listeners": []},
    ],
)
def test_settings_that_could_do_harm_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_for(tmp_path, **wrong)

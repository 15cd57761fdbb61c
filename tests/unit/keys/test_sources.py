"""Where the key-encryption key comes from: settings, or a private file that is made once."""

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from certorbit.errors import BadInput, Broken, NotFound
from certorbit.keys.check import check_keyring, open_keyring
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.keys.keyring import LocalKeyring
from certorbit.keys.sources import key_file, load_keys, load_or_create_keys
from certorbit.settings import Settings
from certorbit.storage import SQLStore
from fakes.clock import FakeChance, FakeClock

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))
CREATE = """
import sys
from certorbit.keys.sources import load_or_create_keys
from certorbit.settings import Settings
print("ready", flush=True)
sys.stdin.readline()
print(load_or_create_keys(Settings(data_dir=sys.argv[1]))[0].id)
"""


def make_settings(data_dir: Path, key: str = "") -> Settings:
    return Settings(data_dir=data_dir, key_encryption_key=key)


def encode(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


async def open_here(settings: Settings, store: SQLStore) -> LocalKeyring:
    keeper = await open_keyring(settings, store=store, clock=FakeClock(auto_advance=True), chance=FakeChance())
    keeper.close()
    return keeper.keyring


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_key_from_the_settings_needs_no_file(tmp_path: Path) -> None:
    keys = load_or_create_keys(make_settings(tmp_path, encode(KEY)))
    assert [key.id for key in keys] == [KeyEncryptionKey(KEY).id]
    assert list_names(tmp_path) == []


def test_of_several_keys_the_first_seals_and_all_open(tmp_path: Path) -> None:
    old = LocalKeyring(load_keys(make_settings(tmp_path, encode(OTHER)))).seal(b"secret", context="c")
    keyring = LocalKeyring(load_keys(make_settings(tmp_path, encode(KEY, OTHER))))
    assert keyring.key_id == KeyEncryptionKey(KEY).id
    assert keyring.open(old, context="c") == b"secret"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(encode(KEY[:31]), id="refused/short"),
        pytest.param(encode(KEY + b"x"), id="refused/long"),
        pytest.param("not base64 geheim!", id="refused/no base64"),
        pytest.param(KEY.hex(), id="refused/hex"),
        pytest.param(encode(KEY) + ",geheim", id="refused/second"),
    ],
)
def test_a_malformed_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match="exactly 32 bytes as base64") as refusal:
        load_or_create_keys(make_settings(tmp_path, text))
    assert refusal.value.subject == "key_encryption_key"
    assert not any(part in str(refusal.value) for part in (text, "geheim", KEY.hex()))
    assert refusal.value.__cause__ is None
    assert list_names(tmp_path) == []


def test_a_new_file_is_private_and_is_read_again(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data")
    (made,) = load_or_create_keys(settings)
    path = key_file(settings)
    assert path == tmp_path / "data" / "keyring" / "key-encryption-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert path.stat().st_nlink == 1
    assert list_names(path.parent) == ["key-encryption-key"]
    assert len(base64.b64decode(path.read_text())) == 32
    content = path.read_bytes()
    assert load_or_create_keys(settings)[0].id == load_keys(settings)[0].id == made.id
    assert path.read_bytes() == content


def test_two_data_directories_get_two_keys(tmp_path: Path) -> None:
    ids = {load_or_create_keys(make_settings(tmp_path / name))[0].id for name in "ab"}
    assert len(ids) == 2


def test_loading_alone_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no key file"):
        load_keys(make_settings(tmp_path))
    assert list_names(tmp_path) == []


def test_of_processes_that_start_at_once_all_get_the_same_key(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ids = {process.communicate(timeout=30)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(ids) == 1
    assert list_names(tmp_path / "keyring") == ["key-encryption-key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o644])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    settings = make_settings(tmp_path)
    load_or_create_keys(settings)
    key_file(settings).chmod(mode)
    with pytest.raises(
        BadInput, match=f"can be read by others \\(mode {mode:04o}\\). Run: chmod 600 {key_file(settings)}"
    ):
        load_or_create_keys(settings)


def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    settings = make_settings(tmp_path)
    load_or_create_keys(settings)
    os.chown(key_file(settings), 12345, -1)
    with pytest.raises(BadInput, match=r"belongs to user 12345, but Certorbit runs as 0\. Run: chown 0 "):
        load_or_create_keys(settings)


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    load_or_create_keys(settings)
    path = key_file(settings)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="can't be read"):
        load_or_create_keys(settings)


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "keyring"
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(BadInput, match=f"chmod 700 {folder}"):
        load_or_create_keys(make_settings(tmp_path))
    assert list_names(folder) == []


def test_an_empty_file_is_not_replaced(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    load_or_create_keys(settings)
    key_file(settings).write_text("")
    with pytest.raises(BadInput, match="there is no key in it"):
        load_or_create_keys(settings)
    assert key_file(settings).read_text() == ""


def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(BadInput, match=r"The key file .*data/keyring/key-encryption-key can't be"):
        load_or_create_keys(make_settings(tmp_path / "data"))


async def test_a_new_database_gets_a_key_and_keeps_it(store: SQLStore, tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data")
    first = await open_here(settings, store)
    envelope = await store.read(lambda tx: tx.keyring_checks.find())
    second = await open_here(settings, store)
    assert first.key_id == second.key_id
    assert envelope is not None
    assert await store.read(lambda tx: tx.keyring_checks.find()) == envelope


async def test_no_new_key_is_made_for_a_database_that_was_sealed_by_another(store: SQLStore, tmp_path: Path) -> None:
    first = await open_here(make_settings(tmp_path, encode(KEY)), store)
    settings = make_settings(tmp_path / "empty")
    with pytest.raises(Broken, match=f"key {first.key_id} that sealed this database is missing.*put its file back"):
        await open_here(settings, store)
    assert not key_file(settings).exists()


async def test_another_key_than_the_databases_is_refused_by_name(store: SQLStore, tmp_path: Path) -> None:
    await open_here(make_settings(tmp_path, encode(KEY)), store)
    with pytest.raises(Broken, match=f"key {KeyEncryptionKey(KEY).id} that sealed this database is missing"):
        await open_here(make_settings(tmp_path, encode(OTHER)), store)
    rotated = await open_here(make_settings(tmp_path, encode(OTHER, KEY)), store)
    assert rotated.key_id == KeyEncryptionKey(OTHER).id


async def test_checking_again_is_harmless(store: SQLStore, tmp_path: Path) -> None:
    keyring = LocalKeyring(load_or_create_keys(make_settings(tmp_path / "data")))
    await check_keyring(store, keyring=keyring)
    await check_keyring(store, keyring=keyring)

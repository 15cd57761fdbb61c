"""A key that is lost is found out at the start, by name, and never silently."""

from pathlib import Path

import pytest

from certorbit.errors import BadInput, Broken, Outside, Unreachable
from certorbit.keyring_settings import KeyringSettings
from certorbit.keys.rewrapping import Rewrapping
from certorbit.keys.sources import key_file
from certorbit.services.keyring import read_status
from certorbit.settings import Settings
from certorbit.storage import SQLStore
from fakes.clock import FakeClock
from keyrings.sealed_rows import (
    FILE_KEY,
    SECOND_KEY,
    assert_all_open,
    make_settings,
    open_keeper,
    seal_everywhere,
    sealed_by,
)
from keyrings.transit_stand_in import TOKEN, TransitStandIn


def transit_settings(folder: Path, service: TransitStandIn, **more: str) -> Settings:
    transit = {"url": service.url, "key": "certorbit", "token": TOKEN, **more}
    return make_settings(folder, "", KeyringSettings.model_validate({"provider": "transit", "transit": transit}))


async def test_a_new_database_with_a_provider_needs_no_key_file(
    store: SQLStore, clock: FakeClock, tmp_path: Path
) -> None:
    async with TransitStandIn() as service:
        settings = transit_settings(tmp_path, service)
        first = await open_keeper(settings, store, clock)
        await seal_everywhere(store, first.keyring)
        second = await open_keeper(settings, store, clock)
        assert second.keyring.key_id == first.keyring.key_id
        assert await assert_all_open(store, second.keyring) == 9
        assert not key_file(settings).parent.exists()
        assert len(await store.read(lambda tx: tx.key_encryption_keys.list())) == 1
        for keeper in (first, second):
            keeper.close()


async def test_a_provider_that_is_away_is_waited_for_a_little_and_then_named(
    store: SQLStore, clock: FakeClock, tmp_path: Path
) -> None:
    async with TransitStandIn() as service:
        settings = transit_settings(tmp_path, service)
        (await open_keeper(settings, store, clock)).close()
        patient = FakeClock(auto_advance=True)
        service.failing = [(503, ["Vault is sealed"])] * 2
        (await open_keeper(settings, store, patient)).close()
        service.failing = [(503, ["Vault is sealed"])] * 3
        with pytest.raises(Unreachable, match="can't do transit/decrypt/certorbit now: 503: Vault is sealed"):
            await open_keeper(settings, store, patient)
        with pytest.raises(Outside, match="refuses transit/decrypt/certorbit: 403: permission denied"):
            await open_keeper(transit_settings(tmp_path, service, token="hvs.revoked"), store, patient)


async def test_a_failed_first_start_leaves_a_new_database_new(
    store: SQLStore, clock: FakeClock, tmp_path: Path
) -> None:
    async with TransitStandIn() as service:
        service.failing = [(403, ["permission denied"])]
        with pytest.raises(Outside):
            await open_keeper(transit_settings(tmp_path, service), store, clock)
    assert await sealed_by(store) == {}
    (await open_keeper(make_settings(tmp_path), store, clock)).close()


async def test_every_key_of_the_file_that_sealed_something_is_asked_for(
    store: SQLStore, clock: FakeClock, tmp_path: Path
) -> None:
    first = await open_keeper(make_settings(tmp_path), store, clock)
    await seal_everywhere(store, first.keyring)
    both = await open_keeper(make_settings(tmp_path, f"{SECOND_KEY},{FILE_KEY}"), store, clock)
    assert both.keyring.key_id != first.keyring.key_id
    for lost, key in ((both.keyring.key_id, FILE_KEY), (first.keyring.key_id, SECOND_KEY)):
        with pytest.raises(Broken, match=f"key {lost} that sealed this database is missing"):
            await open_keeper(make_settings(tmp_path, key), store, clock)
    # A process without the key that the others seal by says so, and learns nothing wrong.
    with pytest.raises(Broken, match="missing in this one's settings"):
        await first.refresh()
    assert first.keyring.key_id != both.keyring.key_id
    for keeper in (first, both):
        keeper.close()


async def test_a_process_with_a_stranger_s_key_changes_nothing_for_the_others(
    store: SQLStore, clock: FakeClock, tmp_path: Path
) -> None:
    keeper = await open_keeper(make_settings(tmp_path), store, clock)
    with pytest.raises(Broken, match=f"key {keeper.keyring.key_id} that sealed this database is missing"):
        await open_keeper(make_settings(tmp_path, SECOND_KEY), store, clock)
    await keeper.refresh()
    assert [key.id for key in (await store.read(read_status)).keys] == [keeper.keyring.key_id]
    keeper.close()


async def test_the_key_that_only_wraps_is_asked_for_too(store: SQLStore, clock: FakeClock, tmp_path: Path) -> None:
    keeper = await open_keeper(make_settings(tmp_path), store, clock)
    await keeper.rotate()
    work = Rewrapping(keeper, store, clock)
    await work.run()
    clock.advance(minutes=6)
    await work.retire()
    keeper.close()
    with pytest.raises(Broken, match=r"is wrapped by the key \w{16}, which is missing here"):
        await open_keeper(make_settings(tmp_path, SECOND_KEY), store, clock)
    with pytest.raises(Broken, match="no key file, which this database needs"):
        await open_keeper(make_settings(tmp_path / "empty", ""), store, clock)
    assert not (tmp_path / "empty").exists(), "a new key is never made for a database with secrets"


async def test_a_database_from_before_there_were_rows_gets_them(
    store: SQLStore, clock: FakeClock, tmp_path: Path
) -> None:
    from certorbit.keys.check import check_keyring
    from certorbit.keys.keyring import LocalKeyring
    from certorbit.keys.sources import load_keys

    settings = make_settings(tmp_path, f"{SECOND_KEY},{FILE_KEY}")
    await check_keyring(store, keyring=LocalKeyring(load_keys(make_settings(tmp_path))))  # as version 0.1 did
    with pytest.raises(Broken, match="that sealed this database is missing"):
        await open_keeper(make_settings(tmp_path, SECOND_KEY), store, clock)
    keeper = await open_keeper(settings, store, clock)
    assert keeper.keyring.key_id == load_keys(settings)[0].id
    keys = (await store.read(read_status)).keys
    assert [key.id for key in keys] == [key.id for key in reversed(load_keys(settings))]
    keeper.close()


async def test_a_missing_package_is_named(store: SQLStore, clock: FakeClock, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = """
import sys
sys.modules["pkcs11"] = None
from certorbit.keyring_settings import KeyringSettings
from certorbit.keys.assembly import make_wrappings
table = {"module": "/m.so", "token_label": "t", "key_label": "k", "pin": "p"}
try:
    make_wrappings(KeyringSettings.model_validate({"pkcs11": table}), [], clock=None, chance=None)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(BadInput.__name__)
    assert "pip install 'certorbit[pkcs11]'" in done.stdout

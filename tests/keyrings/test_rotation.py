"""A new key-encryption key while the service runs: on both databases, with several processes, across crashes."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certorbit.errors import Broken
from certorbit.keyring_settings import KeyringSettings
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.keys.keeper import KeyringKeeper
from certorbit.keys.rewrapping import Rewrapping
from certorbit.model.keyring import KNOWN_VALUE_CONTEXT
from certorbit.ports.store import UnitOfWork
from certorbit.services.keyring import read_status
from certorbit.storage import SQLStore
from certorbit.storage.tables import metadata
from fakes.clock import FakeClock
from keyrings.sealed_rows import (
    FILE_KEY,
    SECOND_KEY,
    assert_all_open,
    binary_columns,
    list_secrets,
    make_settings,
    open_keeper,
    seal_everywhere,
    sealed_by,
)
from keyrings.transit_stand_in import TOKEN, TransitStandIn

FILE_ID = KeyEncryptionKey(base64.b64decode(FILE_KEY)).id
PLACES = 8  # the known value, two of the built-in CA, an account, an order, a shelf's item, two versions


@pytest.fixture
async def keeper(store: SQLStore, clock: FakeClock, tmp_path: Path) -> AsyncIterator[KeyringKeeper]:
    keeper = await open_keeper(make_settings(tmp_path), store, clock)
    await seal_everywhere(store, keeper.keyring, versions=2)
    yield keeper
    keeper.close()


def test_every_binary_column_is_known_to_the_rotation_or_holds_no_secret() -> None:
    # The wrapped keys themselves, and CRLs, which are public.
    others = {"key_encryption_keys.wrapped", "crls.der"}
    from certorbit.storage.sealed_secrets import _PLACES

    assert binary_columns(metadata) - set(_PLACES) <= others


async def test_a_rotation_moves_every_secret_and_leaves_what_is_sealed(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper
) -> None:
    before = {(secret.kind, secret.key): secret for secret in await list_secrets(store)}
    assert await sealed_by(store) == {FILE_ID: PLACES}
    key = await keeper.rotate()
    assert keeper.keyring.key_id == key.id != FILE_ID
    reports: list[int] = []
    assert await Rewrapping(keeper, store, clock).run(report=reports.append) == PLACES
    assert reports[-1] == PLACES
    assert await sealed_by(store) == {key.id: PLACES}
    assert await assert_all_open(store, keeper.keyring) == PLACES
    for secret in await list_secrets(store):
        old = before[secret.kind, secret.key].envelope
        assert secret.envelope[:69] != old[:69]
        assert secret.envelope[69:] == old[69:], "nonce and ciphertext stay"


async def test_another_process_seals_by_the_new_key_after_its_next_look(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper, tmp_path: Path
) -> None:
    other = await open_keeper(make_settings(tmp_path), store, clock)
    key = await keeper.rotate()
    assert other.keyring.key_id == FILE_ID
    await other.refresh()
    assert other.keyring.key_id == key.id
    assert keeper.keyring.open(other.keyring.seal(b"x", context="c"), context="c") == b"x"
    other.close()


async def test_a_secret_of_a_key_that_nobody_told_about_opens_at_once(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper, tmp_path: Path
) -> None:
    other = await open_keeper(make_settings(tmp_path), store, clock)
    await keeper.rotate()
    envelope = keeper.keyring.seal(b"new", context="c")
    # In the event loop itself, as services do.
    assert other.keyring.open(envelope, context="c") == b"new"
    assert other.keyring.key_id == FILE_ID, "what seals is decided by the look"
    other.close()


async def test_an_unknown_key_is_looked_for_once_in_a_while(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper
) -> None:
    stranger = KeyEncryptionKey(b"s" * 32)
    envelope = stranger.seal(b"x", context="c")
    with pytest.raises(Broken, match=f"sealed by the key-encryption key {stranger.id}, which is missing here"):
        keeper.keyring.open(envelope, context="c")
    await store.close()
    with pytest.raises(Broken, match="which is missing here"):
        keeper.keyring.open(envelope, context="c")  # not asked again: the store is closed


async def test_a_run_that_was_killed_goes_on_with_the_next(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper
) -> None:
    key = await keeper.rotate()

    class Killed(BaseException):
        """As if the process were gone."""

    def die(done: int) -> None:
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        await Rewrapping(keeper, store, clock, page=1).run(report=die)
    assert await sealed_by(store) == {FILE_ID: PLACES - 3, key.id: 3}
    assert await assert_all_open(store, keeper.keyring) == PLACES
    assert await Rewrapping(keeper, store, clock).run() == PLACES - 3
    assert await sealed_by(store) == {key.id: PLACES}


async def test_two_runs_at_once_and_writers_beside_them_lose_nothing(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper, tmp_path: Path
) -> None:
    other = await open_keeper(make_settings(tmp_path), store, clock)
    key = await keeper.rotate()

    async def write() -> None:
        for _ in range(5):
            await seal_everywhere(store, other.keyring, versions=1)

    works = [Rewrapping(each, store, clock, page=2) for each in (keeper, other)]
    await asyncio.gather(*(work.run() for work in works), write())
    await works[0].run()
    counts = await sealed_by(store)
    assert set(counts) == {key.id}
    assert await assert_all_open(store, keeper.keyring) == counts[key.id] == PLACES + 5 + 5
    other.close()


async def test_a_row_that_changed_meanwhile_is_left_alone(store: SQLStore, keeper: KeyringKeeper) -> None:
    secret = next(secret for secret in await list_secrets(store) if secret.kind == "versions.sealed_key")
    newer = keeper.keyring.seal(b"newer", context=secret.context)
    assert await store.write(lambda tx: tx.sealed_secrets.replace(secret, newer))
    assert not await store.write(lambda tx: tx.sealed_secrets.replace(secret, b"older"))
    kept = [one.envelope for one in await list_secrets(store) if one.key == secret.key and one.kind == secret.kind]
    assert kept == [newer]


async def test_the_old_key_is_retired_when_nothing_uses_it_and_everybody_knows_the_new_one(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper
) -> None:
    work = Rewrapping(keeper, store, clock)
    key = await keeper.rotate()
    clock.advance(minutes=6)
    assert await work.retire() == [], "it seals everything"
    await work.run()
    assert await work.retire() == [FILE_ID]
    status = await store.read(read_status)
    assert [(one.id, one.retired_at is None) for one in status.keys] == [(FILE_ID, False), (key.id, True)]
    assert (status.sealing, status.total, status.to_rewrap) == (key.id, PLACES, 0)

    # A process that slept through all of it still seals by the old key: found, opened, moved, retired again.
    straggler = KeyEncryptionKey(base64.b64decode(FILE_KEY)).seal(b"certorbit", context=KNOWN_VALUE_CONTEXT)
    known = next(secret for secret in await list_secrets(store) if secret.context == KNOWN_VALUE_CONTEXT)
    await store.write(lambda tx: tx.sealed_secrets.replace(known, straggler))
    assert await work.retire() == []
    assert [one.retired_at for one in (await store.read(read_status)).keys] == [None, None]
    assert await work.run() == 1
    assert await work.retire() == [FILE_ID]


async def test_the_old_key_stays_while_a_process_may_not_have_heard(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper
) -> None:
    work = Rewrapping(keeper, store, clock)
    await keeper.rotate()
    await work.run()
    clock.advance(minutes=4)
    assert await work.retire() == []


async def test_the_workers_finish_a_rotation_and_only_one_at_a_time(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper
) -> None:
    work = Rewrapping(keeper, store, clock)
    assert await work.sweep() == 0
    await keeper.rotate()
    assert await asyncio.gather(work.sweep(), work.sweep()) in ([PLACES, 0], [0, PLACES])
    clock.advance(minutes=6)
    assert await work.sweep() == 0
    assert [key.retired_at is None for key in (await store.read(read_status)).keys] == [False, True]


async def test_a_damaged_secret_is_named_in_the_log_and_keeps_its_key(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = next(secret for secret in await list_secrets(store) if secret.kind == "versions.sealed_key")
    damaged = bytearray(secret.envelope)
    damaged[30] ^= 1
    await store.write(lambda tx: tx.sealed_secrets.replace(secret, bytes(damaged)))
    work = Rewrapping(keeper, store, clock)
    await keeper.rotate()
    assert await work.run() == PLACES - 1
    shown = capsys.readouterr().out
    assert "keyring.secret_lost" in shown
    assert secret.context in shown
    clock.advance(minutes=6)
    assert await work.retire() == []


async def test_a_provider_is_changed_by_a_rotation(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper, tmp_path: Path
) -> None:
    async with TransitStandIn() as service:
        transit = {"url": service.url, "key": "certorbit", "token": TOKEN}
        keyring = KeyringSettings.model_validate({"provider": "transit", "transit": transit})
        moved = await open_keeper(make_settings(tmp_path, keyring=keyring), store, clock)
        assert moved.keyring.key_id == FILE_ID, "nothing changes before the rotation"
        key = await moved.rotate()
        assert (key.provider, key.wrapping_key) == ("transit", "transit/certorbit:v1")
        work = Rewrapping(moved, store, clock)
        await work.run()
        clock.advance(minutes=6)
        assert await work.retire() == [FILE_ID]
        moved.close()

        # The file key is not needed any more; the transit engine is, from now on.
        fresh = await open_keeper(make_settings(tmp_path / "empty", "", keyring), store, clock)
        assert await assert_all_open(store, fresh.keyring) == PLACES
        fresh.close()
        with pytest.raises(Broken, match=rf"{key.id} is wrapped by transit .* Give \[keyring.transit\] back"):
            await open_keeper(make_settings(tmp_path), store, clock)

        # And back again, with what is in the settings only for the way.
        back = KeyringSettings.model_validate({"provider": "file", "transit": transit})
        returned = await open_keeper(make_settings(tmp_path, SECOND_KEY, back), store, clock)
        await returned.rotate()
        await Rewrapping(returned, store, clock).run()
        clock.advance(minutes=6)
        assert await Rewrapping(returned, store, clock).retire() == [key.id]
        returned.close()
    alone = await open_keeper(make_settings(tmp_path, SECOND_KEY), store, clock)
    assert await assert_all_open(store, alone.keyring) == PLACES
    alone.close()


async def test_a_new_key_is_the_newest_even_if_the_clock_goes_backwards(
    store: SQLStore, clock: FakeClock, keeper: KeyringKeeper
) -> None:
    first = await keeper.rotate()
    clock.advance(days=-30)
    second = await keeper.rotate()
    assert second.created_at == first.created_at + timedelta(microseconds=1)
    await keeper.refresh()
    assert keeper.keyring.key_id == second.id


async def test_a_key_is_never_stored_as_it_is(store: SQLStore, keeper: KeyringKeeper) -> None:
    key = await keeper.rotate()

    def read(tx: UnitOfWork) -> bytes:
        found = tx.key_encryption_keys.find(key.id)
        assert found is not None
        return found.wrapped

    wrapped = await store.read(read)
    assert len(wrapped) == 81 + 32 + 16, "an envelope of its own"
    assert KeyEncryptionKey(wrapped[81:113]).id != key.id
    assert "wrapped=" not in repr(replace(key))

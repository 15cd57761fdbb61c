"""API keys, configurations, files and operations: each use-case and each refusal."""

import base64
from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12
from desk import PROD, Desk, make_generate, make_upload

from certorbit.errors import BadInput, Broken, NotFound, NotSignedIn
from certorbit.model.access import APIKey, APIKeyID, KeyTerms, Role
from certorbit.model.entry import PLACEHOLDER, ConfigID, EntryID, Side, Source
from certorbit.model.operation import Operation, OperationID, OperationState
from certorbit.pki.selfsigned import make_placeholder
from certorbit.services import api_keys, configurations, export, operations
from fakes.memory_keyring import MemoryKeyring


async def create(desk: Desk, *, name: str = "hook", role: Role = Role.ADMIN, secret: str = "") -> tuple[APIKey, str]:
    secret = secret or api_keys.new_secret()
    key = await desk.store.write(
        lambda tx: api_keys.create_key(
            tx,
            KeyTerms(name=name, role=role),
            now=desk.clock.now(),
            new_id=desk.new_id,
            secret=secret,
        )
    )
    return key, secret


async def recognise(desk: Desk, secret: str) -> api_keys.Recognised:
    return await desk.store.read(lambda tx: api_keys.authenticate(tx, secret, now=desk.clock.now()))


async def test_only_the_hash_of_a_key_is_kept(desk: Desk) -> None:
    key, secret = await create(desk, name="  deploy hook ")
    assert (key.name, key.prefix) == ("deploy hook", secret[:8])
    assert secret not in repr(key)
    assert await desk.store.read(api_keys.list_keys) == [key]
    assert (await recognise(desk, secret)).key == key


def test_a_new_key_has_256_random_bits_and_a_prefix_for_scanners() -> None:
    keys = {api_keys.new_secret() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert key.startswith("co_")
        assert len(base64.urlsafe_b64decode(key.removeprefix("co_") + "=")) == 32


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
async def test_a_key_has_a_name_of_bounded_length(desk: Desk, name: str) -> None:
    with pytest.raises(BadInput, match="1 to 100 characters"):
        await create(desk, name=name)


async def test_an_unknown_and_a_revoked_key_look_the_same(desk: Desk) -> None:
    await create(desk, name="other")
    key, secret = await create(desk)
    await desk.store.write(lambda tx: api_keys.revoke_key(tx, key.id, now=desk.clock.now()))
    said = set()
    for wrong in (secret, secret + "x", "", "co_" + "x" * 43):
        with pytest.raises(NotSignedIn) as caught:
            await desk.store.read(lambda tx, wrong=wrong: api_keys.authenticate(tx, wrong, now=desk.clock.now()))
        said.add(caught.value.message)
        assert not wrong or wrong not in caught.value.message
    assert len(said) == 1


async def test_revoking_again_is_harmless_and_keeps_the_first_time(desk: Desk) -> None:
    await create(desk, name="other")
    key, _ = await create(desk)
    first = desk.clock.now()
    await desk.store.write(lambda tx: api_keys.revoke_key(tx, key.id, now=first))
    later = desk.clock.advance(hours=1)
    await desk.store.write(lambda tx: api_keys.revoke_key(tx, key.id, now=later))
    found = await desk.store.read(lambda tx: tx.api_keys.find(key.id))
    assert found is not None
    assert found.revoked_at == first


async def test_the_last_administrator_stays(desk: Desk) -> None:
    last, secret = await create(desk)
    await create(desk, name="reader", role=Role.VIEWER)
    with pytest.raises(BadInput, match="'hook' is the last administrator's key"):
        await desk.store.write(lambda tx: api_keys.revoke_key(tx, last.id, now=desk.clock.now()))
    assert (await recognise(desk, secret)).key == last
    with pytest.raises(NotFound):
        await desk.store.write(lambda tx: api_keys.revoke_key(tx, APIKeyID("no-such"), now=desk.clock.now()))


@pytest.mark.parametrize("bootstrap", ["", "co_given-by-the-operator"])
async def test_a_new_database_gets_one_administrator(desk: Desk, bootstrap: str) -> None:
    async def ensure(random_secret: str) -> str | None:
        return await desk.store.write(
            lambda tx: api_keys.ensure_first_key(
                tx,
                bootstrap_secret=bootstrap,
                now=desk.clock.now(),
                new_id=desk.new_id,
                random_secret=random_secret,
            )
        )

    shown = [await ensure("co_random-1"), await ensure("co_random-2")]
    assert shown == [None if bootstrap else "co_random-1", None], "shown once"
    key = (await recognise(desk, bootstrap or "co_random-1")).key
    assert (key.role, key.may_export_keys) == (Role.ADMIN, True)
    assert len(await desk.store.read(api_keys.list_keys)) == 1


async def test_the_built_in_things_are_made_once(desk: Desk) -> None:
    now = desk.clock.now()
    for _ in range(2):
        await desk.store.write(
            lambda tx: configurations.ensure_built_in(
                tx, lambda: make_placeholder(now=now), now=now, new_id=desk.new_id, keyring=desk.keyring
            )
        )
    (configuration,) = await desk.store.read(configurations.list_configurations)
    assert configuration == await desk.store.read(lambda tx: configurations.get_configuration(tx, PROD))
    placeholder = await desk.find(PLACEHOLDER)
    assert placeholder is not None
    assert (placeholder.source, placeholder.le_auto_renew) == (Source.BUILT_IN, False)
    assert export.render_pem(placeholder, keyring=desk.keyring).startswith("-----BEGIN PRIVATE KEY-----")


async def test_an_unknown_configuration_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound, match="no configuration 'x"):
        await desk.store.read(lambda tx: configurations.get_configuration(tx, ConfigID("x" * 500)))


async def test_files_hold_the_key_and_the_chain(desk: Desk) -> None:
    command = make_upload()
    await desk.upload(command)
    entry = await desk.find()
    assert entry is not None
    assert command.material.key is not None
    assert export.render_pem(entry, keyring=desk.keyring) == command.material.key.reveal() + command.material.chain_pem
    for password in (None, b"secret"):
        store = export.render_pfx(entry, keyring=desk.keyring, password=password)
        key, leaf, others = pkcs12.load_key_and_certificates(store, password)
        assert key is not None
        assert leaf is not None
        assert key.public_key() == leaf.public_key()
        assert len(others) == 1


async def test_files_of_a_ca_bundle_hold_certificates_only(desk: Desk) -> None:
    command = make_upload(side=Side.CLIENT_CA)
    await desk.upload(command)
    entry = await desk.find()
    assert entry is not None
    assert export.open_key(entry, keyring=desk.keyring) is None
    assert export.render_pem(entry, keyring=desk.keyring) == command.material.chain_pem
    key, _, _ = pkcs12.load_key_and_certificates(export.render_pfx(entry, keyring=desk.keyring, password=None), None)
    assert key is None


async def test_what_is_still_being_issued_has_no_files(desk: Desk) -> None:
    await desk.generate(make_generate())
    entry = await desk.find()
    assert entry is not None
    assert export.open_key(entry, keyring=desk.keyring) is None
    with pytest.raises(BadInput, match="'shop' is still being issued"):
        export.render_pem(entry, keyring=desk.keyring)
    with pytest.raises(BadInput, match="'shop' is still being issued"):
        export.render_pfx(entry, keyring=desk.keyring, password=None)


async def test_another_keyring_opens_nothing(desk: Desk) -> None:
    await desk.upload(make_upload())
    entry = await desk.find()
    assert entry is not None
    with pytest.raises(Broken):
        export.render_pem(entry, keyring=MemoryKeyring())


async def add_operations(desk: Desk, number: int) -> list[OperationID]:
    """Add operations, three at each instant; return their ids, newest first as they are listed."""
    added: list[Operation] = []
    for place in range(number):
        operation_id = await desk.generate(make_generate(f"entry-{place}", f"h{place}.example.com"))
        assert operation_id is not None
        added.append(await desk.operation(operation_id))
        if place % 3 == 2:
            desk.clock.advance(1)
    ordered = sorted(added, key=lambda operation: (operation.created_at, operation.id), reverse=True)
    return [operation.id for operation in ordered]


async def page(
    desk: Desk, *, cursor: str | None = None, limit: int = 100, entry: str | None = None, state: str | None = None
) -> tuple[Sequence[Operation], str | None, int]:
    return await desk.store.read(
        lambda tx: operations.list_operations(
            tx,
            config=PROD,
            entry=EntryID(entry) if entry else None,
            state=OperationState(state) if state else None,
            cursor=cursor,
            limit=limit,
        )
    )


@pytest.mark.parametrize("limit", [1, 3, 4, 11, 500])
async def test_pages_give_every_operation_once_newest_first(desk: Desk, limit: int) -> None:
    wanted = await add_operations(desk, 11)
    seen: list[OperationID] = []
    cursor = None
    while True:
        items, cursor, total = await page(desk, cursor=cursor, limit=limit)
        assert total == 11
        assert 0 < len(items) <= limit
        seen += [operation.id for operation in items]
        if cursor is None:
            break
    assert seen == wanted


async def test_operations_are_found_by_entry_and_state(desk: Desk) -> None:
    await add_operations(desk, 3)
    items, cursor, total = await page(desk, entry="entry-1")
    assert ([operation.entry_id for operation in items], cursor, total) == (["entry-1"], None, 1)
    assert (await page(desk, state="queued"))[2] == 3
    assert (await page(desk, state="failed")) == ([], None, 0)


@pytest.mark.parametrize("limit", [0, -1, 501])
async def test_a_page_has_a_bounded_length(desk: Desk, limit: int) -> None:
    with pytest.raises(BadInput, match="limit: give a number from 1 to 500"):
        await page(desk, limit=limit)


CURSORS = ["x", "é", "AAAA", base64.urlsafe_b64encode(b"yesterday id").decode(), base64.b64encode(b"\xff").decode()]


@pytest.mark.parametrize("cursor", CURSORS, ids=range(len(CURSORS)))
async def test_a_cursor_that_is_not_ours_is_refused(desk: Desk, cursor: str) -> None:
    with pytest.raises(BadInput, match="cursor: this is not a cursor of ours"):
        await page(desk, cursor=cursor)


async def test_an_operation_is_found_by_its_id(desk: Desk) -> None:
    (operation_id,) = await add_operations(desk, 1)
    found = await desk.store.read(lambda tx: operations.get_operation(tx, operation_id))
    assert (found.id, found.entry_id) == (operation_id, "entry-0")
    assert found.created_at - desk.clock.now() == timedelta(0)
    with pytest.raises(NotFound, match="There is no operation 'x"):
        await desk.store.read(lambda tx: operations.get_operation(tx, OperationID("x" * 300)))

"""A database with a secret in every place that is sealed, and a keeper of its keyring, as a process has one."""

import base64
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from certorbit.errors import LostRace
from certorbit.keyring_settings import KeyringSettings
from certorbit.keys.check import open_keyring
from certorbit.keys.keeper import KeyringKeeper
from certorbit.model.entry import key_context
from certorbit.model.keyring import ISSUING_KEY_CONTEXT, ROOT_KEY_CONTEXT, SealedSecret, shelf_key_context
from certorbit.model.order import account_key_context, order_key_context
from certorbit.ports.balancer_store import ShelvedItem
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.settings import Settings
from certorbit.storage import SQLStore
from fakes.clock import FakeChance, FakeClock
from records import PROD, make_account, make_authority, make_configuration, make_entry, make_intent, make_version

FILE_KEY, SECOND_KEY = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
SECRET = b"the secret of "


def make_settings(folder: Path, key: str = FILE_KEY, keyring: KeyringSettings | None = None) -> Settings:
    return Settings(data_dir=folder, key_encryption_key=key, keyring=keyring or KeyringSettings())


async def open_keeper(settings: Settings, store: Store, clock: FakeClock) -> KeyringKeeper:
    return await open_keyring(settings, store=store, clock=clock, chance=FakeChance())


async def seal_everywhere(store: SQLStore, keyring: Keyring, *, versions: int = 3) -> None:
    """Put a secret into every place; the known value is there already. May be called again: versions are added."""

    def seal(context: str) -> bytes:
        return keyring.seal(SECRET + context.encode(), context=context)

    def write(tx: UnitOfWork) -> None:
        entry = make_entry()
        if tx.configurations.find(PROD) is None:
            tx.configurations.add(make_configuration())
            tx.entries.add(replace(entry, current=None))
        found = tx.entries.find(PROD, entry.id)
        assert found is not None
        for _ in range(versions):
            version = make_version(found.uid, sealed_key=None)
            tx.entries.add_version(replace(version, sealed_key=seal(key_context(version.id))))
        tx.entries.add_version(make_version(found.uid, sealed_key=None))
        intent = make_intent()
        tx.orders.add(replace(intent, sealed_key=seal(order_key_context(intent.id))))
        tx.orders.add(replace(make_intent(), sealed_key=b""))  # dropped after its use
        tx.shelves.put_items([ShelvedItem("edge", "item", "{}", seal(shelf_key_context("edge", "item")))])

    await store.write(write)
    account = make_account()
    sealed = replace(account, sealed_key=seal(account_key_context(account.directory, account.name)))
    authority = replace(
        make_authority(), sealed_root_key=seal(ROOT_KEY_CONTEXT), sealed_issuing_key=seal(ISSUING_KEY_CONTEXT)
    )
    with suppress(LostRace):
        await store.write(lambda tx: tx.accounts.add(sealed))
    with suppress(LostRace):
        await store.write(lambda tx: tx.authorities.add(authority))


async def list_secrets(store: Store) -> list[SealedSecret]:
    """Return every sealed secret of the database."""

    def read(tx: UnitOfWork) -> list[SealedSecret]:
        found: list[SealedSecret] = []
        for kind in tx.sealed_secrets.kinds():
            found += tx.sealed_secrets.list_others(kind, than="00" * 8, after=None, limit=10_000)
        return found

    return await store.read(read)


async def assert_all_open(store: Store, keyring: Keyring) -> int:
    """Fail unless every secret is what was sealed; return how many there are."""
    secrets = await list_secrets(store)
    for secret in secrets:
        opened = keyring.open(secret.envelope, context=secret.context)
        assert opened in {SECRET + secret.context.encode(), b"certorbit"}, secret.kind
    return len(secrets)


async def sealed_by(store: Store) -> dict[str, int]:
    return dict(await store.read(lambda tx: tx.sealed_secrets.count_by_key()))


def binary_columns(metadata: sa.MetaData) -> set[str]:
    return {
        f"{table.name}.{column.name}"
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, sa.LargeBinary)
    }

"""Opens a database's keyring, and finds out at the start whether it is the right one, not at an export months later.

Every key-encryption key that ever sealed something has its row; those that are not retired must be there. Beside, a
known value that was sealed when the database was new must open. A new key is never made for a database that holds
sealed secrets.
"""

from collections.abc import Sequence
from datetime import timedelta

from certorbit.clock import Chance, Clock
from certorbit.errors import Broken, NotFound
from certorbit.keys.assembly import make_wrappings
from certorbit.keys.envelope import KeyEncryptionKey, read_key_id
from certorbit.keys.keeper import KeyringKeeper, KeyWrappings
from certorbit.keys.keyring import LocalKeyring
from certorbit.keys.sources import key_file, load_keys, load_or_create_keys
from certorbit.model.keyring import FILE, KNOWN_VALUE_CONTEXT, StoredKey, newest_in_use
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.settings import Settings

_KNOWN = b"certorbit"
_CONTEXT = KNOWN_VALUE_CONTEXT


async def open_keyring(settings: Settings, *, store: Store, clock: Clock, chance: Chance) -> KeyringKeeper:
    """Return the keeper of this database's keyring. A new database gets its first key by the settings' provider.

    Raises:
        Broken: a key that sealed something is missing here; the message names it and what to do.
        Unreachable, Outside: its provider doesn't answer, or says no.
        BadInput: see `sources.load_keys`, `assembly.make_wrappings`.
        Unreachable: the database can't be used.
    """
    rows, envelope = await store.read(lambda tx: (tx.key_encryption_keys.list(), tx.keyring_checks.find()))
    is_new, seals_by_file = envelope is None and not rows, settings.keyring.provider == FILE
    file_keys = _find_file_keys(settings, may_create=is_new and seals_by_file)
    if envelope is not None and not rows and not file_keys:
        raise _missing(envelope, hint=f"put its file back at {key_file(settings)}")
    wrappings = make_wrappings(settings.keyring, file_keys, clock=clock, chance=chance)
    if is_new and not seals_by_file:
        await _make_first(store, wrappings, clock=clock)
    elif not rows:
        await check_keyring(store, keyring=LocalKeyring(file_keys))
        await store.write(lambda tx: _record_file_keys(tx, file_keys, clock=clock))
    elif seals_by_file and file_keys:
        # Nothing is written by a process that lacks a key: the others would have to follow it.
        await _load(rows, file_keys, wrappings=wrappings, settings=settings)
        await store.write(lambda tx: _record_file_keys(tx, file_keys[:1], clock=clock))
    rows = await store.read(lambda tx: tx.key_encryption_keys.list())
    keys = await _load(rows, file_keys, wrappings=wrappings, settings=settings)
    keeper = KeyringKeeper(keys, store=store, wrappings=wrappings, clock=clock)
    await check_keyring(store, keyring=keeper.keyring)
    return keeper


async def check_keyring(store: Store, *, keyring: Keyring) -> None:
    """Return if the keyring opens the known value; on a new database, seal it first. May run in many processes.

    Raises:
        Broken: the key that sealed the database is not in the keyring.
    """

    def look(tx: UnitOfWork) -> bytes:
        envelope = tx.keyring_checks.find()
        if envelope is None:
            envelope = keyring.seal(_KNOWN, context=_CONTEXT)
            tx.keyring_checks.add(envelope)
        return envelope

    envelope = await store.write(look)
    try:
        opened = keyring.open(envelope, context=_CONTEXT)
    except Broken as error:
        raise _missing(envelope, hint="put it back in front of, or behind, the key in use") from error
    if opened != _KNOWN:
        raise _missing(envelope, hint="the database's keyring check is not ours")


def _find_file_keys(settings: Settings, *, may_create: bool) -> Sequence[KeyEncryptionKey]:
    if may_create:
        return load_or_create_keys(settings)
    try:
        return load_keys(settings)
    except NotFound:
        return []


async def _make_first(store: Store, wrappings: KeyWrappings, *, clock: Clock) -> None:
    """Give a new database its first key; of two processes that do so at once, one does."""
    key, row = await wrappings.make_key(now=clock.now())

    def add(tx: UnitOfWork) -> None:
        if tx.keyring_checks.find() is None:
            tx.key_encryption_keys.add(row)
            # In one transaction: the second one finds it, or loses the race for its row and then finds it.
            tx.keyring_checks.add(LocalKeyring([key]).seal(_KNOWN, context=_CONTEXT))

    await store.write(add)


def _record_file_keys(tx: UnitOfWork, keys: Sequence[KeyEncryptionKey], *, clock: Clock) -> None:
    """Give keys of settings or file their rows if they seal by themselves, the first one as the newest.

    They do until the first rotation; from then on they wrap only. Of a database from before there were rows, any of
    them may have sealed something.
    """
    rows = {row.id: row for row in tx.key_encryption_keys.list()}
    newest = newest_in_use(list(rows.values()))
    if newest is not None and not newest.is_direct:
        return
    now = clock.now()
    instant = max(now, newest.created_at) if newest else now
    for place, key in enumerate(reversed(keys), start=1):
        if key.id not in rows:
            stored = StoredKey(key.id, FILE, key.id, b"", instant + timedelta(microseconds=place))
            tx.key_encryption_keys.add(stored)


async def _load(
    rows: Sequence[StoredKey], file_keys: Sequence[KeyEncryptionKey], *, wrappings: KeyWrappings, settings: Settings
) -> list[KeyEncryptionKey]:
    """Return all keys that are not retired, and those of settings and file; the one that seals comes first."""
    held = {key.id: key for key in file_keys}
    for row in rows:
        if row.retired_at is not None:
            continue
        if not row.is_direct:
            held[row.id] = await wrappings.unwrap(row)
        elif row.id not in held:
            raise Broken(
                f"The key-encryption key {row.id} that sealed this database is missing; without it no private key can"
                " be opened. Set CERTORBIT_KEY_ENCRYPTION_KEY to it (several are separated by commas), or put its file"
                f" back at {key_file(settings)}.",
                subject="key_encryption_key",
            )
    newest = newest_in_use(rows)
    if newest is None:
        return list(held.values())
    return [held.pop(newest.id), *held.values()]


def _missing(envelope: bytes, *, hint: str) -> Broken:
    wanted = read_key_id(envelope, context=_CONTEXT)
    return Broken(
        f"The key-encryption key {wanted} that sealed this database is missing; without it no private key can be"
        f" opened. Set CERTORBIT_KEY_ENCRYPTION_KEY to it, or {hint}.",
        subject="key_encryption_key",
    )

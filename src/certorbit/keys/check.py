"""Whether a keyring is the database's own: found out at the start, not at the first export months later.

A new database gets a known value, sealed; every later start must be able to open it. A new key is never made for a
database that holds sealed secrets.
"""

from certorbit.errors import Broken, NotFound
from certorbit.keys.envelope import read_key_id
from certorbit.keys.keyring import LocalKeyring
from certorbit.keys.sources import key_file, load_keyring, load_or_create_keyring
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.settings import Settings

_KNOWN = b"certorbit"
_CONTEXT = "keyring-check"


async def open_keyring(settings: Settings, *, store: Store) -> LocalKeyring:
    """Return the keyring of this database. A new database gets a key file if the settings hold no key.

    Raises:
        Broken: the database was sealed by a key that is missing here; the message names it and what to do.
        BadInput: see `sources.load_keyring`.
        Unreachable: the database can't be used.
    """
    envelope = await store.read(lambda tx: tx.keyring_checks.find())
    if envelope is None:
        keyring = load_or_create_keyring(settings)
    else:
        try:
            keyring = load_keyring(settings)
        except NotFound as error:
            raise _missing(envelope, hint=f"put its file back at {key_file(settings)}") from error
    await check_keyring(store, keyring=keyring)
    return keyring


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


def _missing(envelope: bytes, *, hint: str) -> Broken:
    wanted = read_key_id(envelope, context=_CONTEXT)
    return Broken(
        f"The key-encryption key {wanted} that sealed this database is missing; without it no private key can be"
        f" opened. Set CERTORBIT_KEY_ENCRYPTION_KEY to it, or {hint}.",
        subject="key_encryption_key",
    )

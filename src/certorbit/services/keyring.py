"""How the keyring stands: for administrators."""

from certorbit.model.keyring import KeyringStatus, newest_in_use
from certorbit.ports.store import UnitOfWork


def read_status(tx: UnitOfWork) -> KeyringStatus:
    """Return keys, and how many secrets each one seals. Reads the beginning of every envelope."""
    keys = tx.key_encryption_keys.list()
    newest = newest_in_use(keys)
    return KeyringStatus(keys, newest.id if newest else "", tx.sealed_secrets.count_by_key())

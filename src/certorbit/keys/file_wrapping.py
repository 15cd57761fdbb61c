"""Provider `file`: key-encryption keys wrapped by the key of the settings or of the key file."""

from collections.abc import Sequence

from certorbit.errors import Broken
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.keys.keyring import LocalKeyring
from certorbit.ports.key_wrapping import WrappedKey


class FileWrapping:
    """Implements `ports.key_wrapping.KeyWrapping`. keys: the first one wraps, all of them unwrap."""

    def __init__(self, keys: Sequence[KeyEncryptionKey]) -> None:
        self._keyring = LocalKeyring(keys) if keys else None

    async def wrap(self, key: bytes, *, key_id: str) -> WrappedKey:
        keyring = self._held()
        return WrappedKey(keyring.key_id, keyring.seal(key, context=_context(key_id)))

    async def unwrap(self, wrapped: WrappedKey, *, key_id: str) -> bytes:
        keyring = self._held()
        if wrapped.wrapping_key not in keyring.key_ids:
            raise Broken(
                f"The key-encryption key {key_id} is wrapped by the key {wrapped.wrapping_key}, which is missing here."
                " Give it back in CERTORBIT_KEY_ENCRYPTION_KEY or the key file, behind the others.",
                subject="key_encryption_key",
            )
        return keyring.open(wrapped.blob, context=_context(key_id))

    def _held(self) -> LocalKeyring:
        if self._keyring is None:
            raise Broken(
                "There is no key in CERTORBIT_KEY_ENCRYPTION_KEY and no key file, which this database needs: put it"
                " back, or restore it from a backup.",
                subject="key_encryption_key",
            )
        return self._keyring


def _context(key_id: str) -> str:
    return f"key-encryption-key:{key_id}"

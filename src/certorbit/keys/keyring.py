"""The keyring whose keys are in this process's memory."""

from collections.abc import Sequence
from typing import NoReturn

from certorbit.errors import Broken
from certorbit.keys.envelope import KeyEncryptionKey, read_key_id


class LocalKeyring:
    """Implements `ports.keyring.Keyring`: the first key seals, all of them open.

    To rotate, put a new key in front; what older keys sealed still opens.
    """

    __slots__ = ("_keys", "_sealing")

    def __init__(self, keys: Sequence[KeyEncryptionKey]) -> None:
        if not keys:
            raise Broken("A keyring needs at least one key-encryption key.")
        self._sealing = keys[0]
        self._keys = {key.id: key for key in keys}

    @property
    def key_id(self) -> str:
        """The id of the key that seals: lower-case hex, no secret."""
        return self._sealing.id

    def seal(self, secret: bytes, *, context: str) -> bytes:
        return self._sealing.seal(secret, context=context)

    def open(self, envelope: bytes, *, context: str) -> bytes:
        wanted = read_key_id(envelope, context=context)
        key = self._keys.get(wanted)
        if key is None:
            raise Broken(
                f"The secret {context!r} was sealed by the key-encryption key {wanted}, which is missing here (there"
                f" is {', '.join(self._keys)}). Give it back in CERTORBIT_KEY_ENCRYPTION_KEY or the key file.",
                subject=context,
            )
        return key.open(envelope, context=context)

    def __repr__(self) -> str:
        return f"<keyring of {', '.join(self._keys)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is never pickled")

"""The keyring whose keys are in this process's memory."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from certorbit.errors import Broken
from certorbit.keys.envelope import KeyEncryptionKey, read_key_id

# Returns the key of an id, or None; may block for a moment. Raises Broken if there is such a key but it can't be had.
Find = Callable[[str], KeyEncryptionKey | None]


def find_nothing(_key_id: str) -> None:
    """Know no further key."""


class LocalKeyring:
    """Implements `ports.keyring.Keyring`: the first key seals, all of them open.

    find: asked for a key that another process has made since; see `keeper.KeyringKeeper`.
    """

    __slots__ = ("_find", "_keys", "_lock", "_sealing")

    def __init__(self, keys: Sequence[KeyEncryptionKey], *, find: Find = find_nothing) -> None:
        if not keys:
            raise Broken("A keyring needs at least one key-encryption key.")
        self._sealing = keys[0]
        self._keys = {key.id: key for key in keys}
        self._find = find
        self._lock = threading.Lock()

    @property
    def key_id(self) -> str:
        """The id of the key that seals: lower-case hex, no secret."""
        return self._sealing.id

    @property
    def key_ids(self) -> frozenset[str]:
        return frozenset(self._keys)

    def hold(self, keys: Iterable[KeyEncryptionKey] = (), *, sealing: str | None = None) -> None:
        """Take further keys in. sealing: the id of the one to seal by from now on; None: as now."""
        with self._lock:
            # Replaced, not changed: threads that look something up at this moment see the old or the new one.
            self._keys = {**self._keys, **{key.id: key for key in keys}}
            if sealing is not None:
                self._sealing = self._keys[sealing]

    def seal(self, secret: bytes, *, context: str) -> bytes:
        return self._sealing.seal(secret, context=context)

    def open(self, envelope: bytes, *, context: str) -> bytes:
        return self._key_of(envelope, context=context).open(envelope, context=context)

    def rewrap(self, envelope: bytes, *, context: str) -> bytes:
        """Return the envelope with its data key wrapped by the key that seals. Raises Broken as `open`."""
        return self._key_of(envelope, context=context).rewrap(envelope, context=context, under=self._sealing)

    def _key_of(self, envelope: bytes, *, context: str) -> KeyEncryptionKey:
        wanted = read_key_id(envelope, context=context)
        key = self._keys.get(wanted) or self._find(wanted)
        if key is None:
            raise Broken(
                f"The secret {context!r} was sealed by the key-encryption key {wanted}, which is missing here (there"
                f" is {', '.join(self._keys)}). Give it back in CERTORBIT_KEY_ENCRYPTION_KEY or the key file.",
                subject=context,
            )
        return key

    def __repr__(self) -> str:
        return f"<keyring of {', '.join(self._keys)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is never pickled")

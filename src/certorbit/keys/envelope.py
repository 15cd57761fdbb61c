"""The envelope: how a secret lies in the database.

    version marker   1 byte   0x01
    key id           8 bytes  the first 8 of SHA-256 of the key-encryption key
    wrap nonce      12 bytes
    wrapped key     48 bytes  the data key (32) and its tag (16), AES-256-GCM under the key-encryption key
    nonce           12 bytes
    ciphertext       n bytes  and its tag (16), AES-256-GCM under the data key

Associated data of both layers: version marker and context. The context names the row, so an envelope that is moved to
another row does not open. Rotation re-wraps the 48 bytes; the ciphertext stays (docs/decisions, architecture.md).
"""

import os
from hashlib import sha256
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certorbit.errors import Broken

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12  # the size that GCM is made for (NIST SP 800-38D §8.2.2: random nonces, at most 2^32 per key)
_TAG_BYTES = 16
_ID_END = len(_VERSION) + _ID_BYTES
_WRAP_NONCE_END = _ID_END + _NONCE_BYTES
_WRAPPED_END = _WRAP_NONCE_END + KEY_BYTES + _TAG_BYTES
_NONCE_END = _WRAPPED_END + _NONCE_BYTES


class KeyEncryptionKey:
    """A key that wraps data keys. `id` (lower-case hex) is fit for logs; the key itself never comes out again."""

    __slots__ = ("_cipher", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise Broken(f"A key-encryption key has {KEY_BYTES} bytes, not {len(key)}.")
        self.id = sha256(key).digest()[:_ID_BYTES].hex()
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return f"<key-encryption key {self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key-encryption key is never pickled")

    def seal(self, secret: bytes, *, context: str) -> bytes:
        """Return the envelope of the secret under a data key of its own."""
        data_key, nonce = os.urandom(KEY_BYTES), os.urandom(_NONCE_BYTES)
        ciphertext = AESGCM(data_key).encrypt(nonce, secret, _VERSION + context.encode())
        return self.begin(data_key, context=context) + nonce + ciphertext

    def open(self, envelope: bytes, *, context: str) -> bytes:
        """Return the secret of an envelope that names this key.

        Raises:
            Broken: it was made for another context, or is damaged.
        """
        bound_to = _VERSION + context.encode()
        data_key = self._open_data_key(envelope, context=context)
        try:
            return AESGCM(data_key).decrypt(envelope[_WRAPPED_END:_NONCE_END], envelope[_NONCE_END:], bound_to)
        except InvalidTag as error:
            raise _damaged(context) from error

    def rewrap(self, envelope: bytes, *, context: str, under: "KeyEncryptionKey") -> bytes:
        """Return the envelope, which names this key, with its data key wrapped by another; the ciphertext stays.

        Raises:
            Broken: the wrapped key was made for another context, or is damaged.
        """
        data_key = self._open_data_key(envelope, context=context)
        return under.begin(data_key, context=context) + envelope[_WRAPPED_END:]

    def begin(self, data_key: bytes, *, context: str) -> bytes:
        """Return the beginning of an envelope that names this key, up to the wrapped data key."""
        wrap_nonce = os.urandom(_NONCE_BYTES)
        wrapped = self._cipher.encrypt(wrap_nonce, data_key, _VERSION + context.encode())
        return b"".join((_VERSION, bytes.fromhex(self.id), wrap_nonce, wrapped))

    def _open_data_key(self, envelope: bytes, *, context: str) -> bytes:
        wrap_nonce, wrapped = envelope[_ID_END:_WRAP_NONCE_END], envelope[_WRAP_NONCE_END:_WRAPPED_END]
        try:
            return self._cipher.decrypt(wrap_nonce, wrapped, _VERSION + context.encode())
        except InvalidTag as error:
            raise _damaged(context) from error


def _damaged(context: str) -> Broken:
    return Broken(
        f"The sealed secret {context!r} is damaged or belongs to another row. Restore it from a backup.",
        subject=context,
    )


def read_key_id(envelope: bytes, *, context: str) -> str:
    """Return the id of the key-encryption key that the envelope wants.

    Raises:
        Broken: it is no envelope of this version.
    """
    if envelope[:1] != _VERSION or len(envelope) < _NONCE_END + _TAG_BYTES:
        raise Broken(
            f"The sealed secret {context!r} is no envelope of version 1: damaged, or a newer Certorbit made it.",
            subject=context,
        )
    return envelope[len(_VERSION) : _ID_END].hex()

"""Private keys sealed to the recipient: HPKE (RFC 9180) in base mode. Nobody here can open them again."""

from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certorbit.publish_settings import parse_recipient_key

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Recipient:
    """Whom keys are sealed to. id: lower-case hex SHA-256 of the public key's SubjectPublicKeyInfo DER."""

    def __init__(self, key: X25519PublicKey) -> None:
        self._key = key
        self.id = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    @classmethod
    def from_text(cls, text: str) -> "Recipient":
        """Return the recipient of a text that the settings have accepted."""
        return cls(parse_recipient_key(text))

    def seal(self, secret: bytes, *, binding: str) -> bytes:
        """Return the encapsulated key (32 bytes) and the ciphertext. binding: HPKE's `info`; needed to open it."""
        return _SUITE.encrypt(secret, self._key, info=binding.encode())

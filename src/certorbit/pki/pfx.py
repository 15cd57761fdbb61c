"""PKCS#12 stores (RFC 7292) of what we hold."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PBES,
    PKCS12Certificate,
    serialize_key_and_certificates,
)
from cryptography.x509 import Certificate

from certorbit.errors import BadInput
from certorbit.model.material import PrivateKeyPEM
from certorbit.pki.pem import read_certificates
from certorbit.pki.private_key import load_own_key

ITERATIONS = 20_000  # cryptography's own default; 7 ms per store


def make_pfx(chain_pem: str, *, key: PrivateKeyPEM | None, name: str, password: bytes | None) -> bytes:
    """Return a PKCS#12 store with the whole chain.

    Args:
        chain_pem: leaf first, one of our versions.
        key: the leaf's; None makes a store of certificates only.
        name: the friendly name of key and leaf.
        password: AES-256-CBC with PBES2 and an HMAC with SHA-256; None or empty: not encrypted at all.

    Raises:
        BadMaterial: the chain can't be read.
        BadInput: the password is not UTF-8; PKCS#12 writes it as text (RFC 7292 appendix B.1).
    """
    if password and not _is_utf8(password):
        raise BadInput("The password of the PKCS#12 store is not UTF-8 text. Choose another one.", subject="password")
    leaf, *issuers = read_certificates(chain_pem, subject="chain")
    encryption = _encrypt(password) if password else NoEncryption()
    friendly = name.encode()
    if key is None:
        bundle: list[PKCS12Certificate | Certificate] = [PKCS12Certificate(leaf, friendly), *issuers]
        return serialize_key_and_certificates(None, None, None, bundle, encryption)
    return serialize_key_and_certificates(friendly, load_own_key(key), leaf, issuers, encryption)


def _is_utf8(password: bytes) -> bool:
    try:
        password.decode()
    except UnicodeDecodeError:
        return False
    return True


def _encrypt(password: bytes) -> KeySerializationEncryption:
    return (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(ITERATIONS)
        .key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(SHA256())
        .build(password)
    )

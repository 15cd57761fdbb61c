"""Private keys: those that we make, those that we hold, and those that people upload."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from certorbit.errors import BadMaterial, Broken
from certorbit.model.material import KeyType, PrivateKeyPEM
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.pem import PEMBlock
from certorbit.pki.public_key import find_key_fault, hash_public_key

ServableKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_RSA_BITS = {KeyType.RSA_2048: 2048, KeyType.RSA_3072: 3072, KeyType.RSA_4096: 4096}
_CURVES: dict[KeyType, type[ec.EllipticCurve]] = {
    KeyType.ECDSA_P256: ec.SECP256R1,
    KeyType.ECDSA_P384: ec.SECP384R1,
}


def make_key(key_type: KeyType) -> PrivateKeyPEM:
    """Return a new key. RSA takes 40 to 1000 ms of CPU (the interpreter lock is released): call it in a thread."""
    if key_type in _RSA_BITS:
        return write_key(rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS[key_type]))
    return write_key(ec.generate_private_key(_CURVES[key_type]()))


def write_key(key: ServableKey) -> PrivateKeyPEM:
    """Return the key as unencrypted PKCS#8 PEM."""
    return PrivateKeyPEM(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"))


def load_own_key(key: PrivateKeyPEM) -> ServableKey:
    """Return the key object. Only for keys that we made or checked: an RSA key is not checked again (40 ms).

    Raises:
        Broken: it can't be read, so it isn't one of ours.
    """
    try:
        loaded = load_pem_private_key(key.reveal().encode("ascii"), password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # No cause is chained: the foreign message might show a piece of what it read.
        raise Broken("A stored private key can't be read.") from None
    if not isinstance(loaded, ServableKey):
        raise Broken("A stored private key is neither RSA nor ECDSA.")
    return loaded


def public_key_sha256(key: PrivateKeyPEM) -> str:
    """Return the lower-case hex SHA-256 of the SubjectPublicKeyInfo DER of our key."""
    return hash_public_key(load_own_key(key).public_key())


def read_uploaded_key(block: PEMBlock, *, subject: str) -> ServableKey:
    """Return a key that a person gave, fully checked. RSA takes 40 to 250 ms of CPU: call it in a thread.

    Args:
        block: PKCS#8, PKCS#1 or SEC1 (contract.md, Certificates); the label may be wrong about which.

    Raises:
        BadMaterial: encrypted, unreadable, inconsistent, or of a kind that can't be served.
    """
    if block.is_encrypted:
        raise _encrypted(subject)
    if block.label == "OPENSSH PRIVATE KEY":
        raise BadMaterial(
            f"{subject}: the private key is in OpenSSH's own form. Convert it: ssh-keygen -p -m PEM -f key.pem",
            subject=subject,
        )
    _check_kind(block, subject=subject)
    # Only now, when it is known to be of a decent size, is an RSA key checked in full: the time grows with the cube.
    key = _load(block.der, subject=subject, check=True)
    assert isinstance(key, ServableKey)  # `_check_kind` has seen it
    return key


def _check_kind(block: PEMBlock, *, subject: str) -> None:
    fault = find_key_fault(_load(block.der, subject=subject, check=False).public_key())
    if fault:
        raise BadMaterial(f"{subject}: {fault}.", subject=subject)


def _load(der: bytes, *, subject: str, check: bool) -> PrivateKeyTypes:
    try:
        return load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=not check)
    except TypeError as error:  # cryptography's word for "a password is needed"
        raise _encrypted(subject) from error
    except UNREADABLE:
        # No cause is chained: the foreign message might show a piece of what it read.
        raise _unreadable(subject) from None


def _encrypted(subject: str) -> BadMaterial:
    return BadMaterial(
        f"{subject}: the private key is encrypted. Give it without a password: openssl pkey -in key.pem",
        subject=subject,
    )


def _unreadable(subject: str) -> BadMaterial:
    return BadMaterial(
        f"{subject}: the private key can't be read: damaged, inconsistent or of an unknown kind. Give PKCS#8, PKCS#1"
        " or SEC1 as PEM, with a named curve.",
        subject=subject,
    )

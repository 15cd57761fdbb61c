"""What public keys are called, how they are told apart, and which ones a load balancer can serve."""

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate

from certorbit.pki.foreign_errors import UNREADABLE

LEAST_RSA_BITS = 2048  # BR 6.1.5, contract.md
MOST_RSA_BITS = 4096  # AWS ACM's largest; the full check of a key with 8192 bits holds the interpreter for seconds
_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}


def hash_public_key(key: CertificatePublicKeyTypes) -> str:
    """Return the lower-case hex SHA-256 of the key's SubjectPublicKeyInfo DER."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def find_public_key(certificate: Certificate) -> CertificatePublicKeyTypes | None:
    """Return the certificate's key, None if it is of a kind that we can't read."""
    try:
        return certificate.public_key()
    except UNREADABLE:
        return None


def name_key_algorithm(key: PublicKeyTypes) -> str:
    """Return `rsa-2048`, `ecdsa-p256`, `ed25519` …: for the keys that we make, the words of `KeyType`."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ecdsa-{_CURVES.get(key.curve.name, key.curve.name)}"
    if isinstance(key, dsa.DSAPublicKey):
        return f"dsa-{key.key_size}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    return "ed448" if isinstance(key, ed448.Ed448PublicKey) else "unknown"


def find_key_fault(key: PublicKeyTypes) -> str:
    """Return why load balancers and clients can't use such a key, as a clause without a full stop; "" if they can.

    RSA of 2048 to 4096 bits and the curves P-256, P-384 and P-521 are fine. Ed25519 is not: neither browsers nor the
    cloud load balancers take it.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < LEAST_RSA_BITS:
            return f"an RSA key of {key.key_size} bits is too short; at least {LEAST_RSA_BITS} are needed"
        if key.key_size > MOST_RSA_BITS:
            return f"an RSA key of {key.key_size} bits is too long; at most {MOST_RSA_BITS} are taken"
        return ""
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return ""
    return (
        f"a key of type {name_key_algorithm(key)} can't be served; use RSA with {LEAST_RSA_BITS} bits or more, or the"
        " curves P-256, P-384, P-521"
    )

"""Private keys and the facts of certificates, as values that can't leak by accident."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PrivateKeyPEM:
    """A private key, PKCS#8 PEM. Its text comes out only by `reveal()`; `repr` and `str` hide it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the PEM text. Call it as late as possible, never for a log, an error or a metric."""
        return self._text

    def __repr__(self) -> str:
        return "<private key>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKeyPEM) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a private key is never pickled")


class KeyType(StrEnum):
    """The keys that we make (facts.md 3.2: what public CAs take)."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a certificate says of itself, read once and stored beside it.

    subject, issuer: `C=US, O=Let's Encrypt, CN=R11`: in certificate order (contract.md).
    san: DNS names and IP addresses in the certificate's order.
    serial: lower-case hex without leading zeros.
    cdp: http(s) URLs of the CRL distribution points.
    fingerprint: lower-case hex SHA-256 of the DER.
    public_key_sha256: lower-case hex SHA-256 of the SubjectPublicKeyInfo DER.
    authority_key_id: lower-case hex of the AKI keyIdentifier, or "".
    """

    subject: str
    issuer: str
    san: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    serial: str
    cdp: tuple[str, ...]
    fingerprint: str
    public_key_sha256: str
    key_algorithm: str
    authority_key_id: str
    is_ca: bool


@dataclass(frozen=True, slots=True)
class Material:
    """A chain and, for sides that serve, its key, checked against each other.

    chain_pem: leaf first then its issuers, one PEM text with "\\n" line ends and one at the end.
    key: PKCS#8 PEM, None for CA bundles.
    facts: of the leaf; for a CA bundle of its first certificate, with the end of the one that ends first.
    """

    chain_pem: str
    key: PrivateKeyPEM | None
    facts: CertificateFacts

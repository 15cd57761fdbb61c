"""Where a certificate says that its revocation is published, and who signs that (RFC 5280 §4.2.1.13)."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certorbit.errors import BadMaterial
from certorbit.model.crl import REASONS
from certorbit.pki.chain import is_issued_by
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.pem import read_certificates

MOST_URLS: Final = 16  # ours: public CAs give one or two; each one may have to be fetched


@dataclass(frozen=True, slots=True)
class DistributionPoint:
    """One place. urls: all of them lead to the same list. reasons: which revocations it tells of."""

    urls: tuple[str, ...]
    reasons: frozenset[str]


@dataclass(frozen=True, slots=True)
class CheckedLeaf:
    """What of a stored chain its revocation check needs.

    issuer: None: its certificate is not in the chain. issuer_id: hex digest of the issuer's name and key.
    """

    serial: int
    is_ca: bool
    points: tuple[DistributionPoint, ...]
    issuer: x509.Certificate | None
    issuer_id: str


def read_leaf(chain_pem: str) -> CheckedLeaf:
    """Return the leaf of a stored chain with its distribution points and its issuer.

    A point whose list only an LDAP server has, or somebody else than the issuer signs, has no URLs.

    Raises:
        BadMaterial: the chain can't be read, or it has more than `MOST_URLS` URLs.
    """
    leaf, *others = read_certificates(chain_pem, subject="chain")
    issuer = next((other for other in others if is_issued_by(leaf, other)), None)
    try:
        points = _read_points(leaf)
        constraints = _find_constraints(leaf)
        issuer_id = identify_issuer(issuer) if issuer is not None else ""
    except UNREADABLE as error:
        raise BadMaterial("chain: the certificate's extensions can't be read.", subject="chain") from error
    if sum(len(point.urls) for point in points) > MOST_URLS:
        raise BadMaterial(
            f"chain: the certificate names more than {MOST_URLS} URLs of revocation lists.", subject="chain"
        )
    return CheckedLeaf(
        serial=leaf.serial_number,
        is_ca=constraints is not None and constraints.ca,
        points=points,
        issuer=issuer,
        issuer_id=issuer_id,
    )


def identify_issuer(issuer: x509.Certificate) -> str:
    """Return what stays the same when a CA's certificate is renewed or cross-signed: a digest of name and key."""
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(sha256(issuer.subject.public_bytes()).digest() + key).hexdigest()


def _read_points(leaf: x509.Certificate) -> tuple[DistributionPoint, ...]:
    try:
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(
        DistributionPoint(
            urls=_read_urls(point) if point.crl_issuer is None else (),
            reasons=REASONS if point.reasons is None else REASONS & {flag.value for flag in point.reasons},
        )
        for point in points
    )


def _read_urls(point: x509.DistributionPoint) -> tuple[str, ...]:
    return tuple(
        name.value
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier) and name.value.lower().startswith(("http://", "https://"))
    )


def _find_constraints(leaf: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None

"""What ACM and CloudFront take, checked before an import of the year's quota is spent. Pure.

Source: ACM user guide, 'Prerequisites for importing ACM certificates' and 'Reimport a certificate'.
"""

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from certorbit.errors import TargetRefused
from certorbit.model.balancer import Bundle
from certorbit.model.material import PrivateKeyPEM
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.public_key import name_key_algorithm

CLOUDFRONT_SCOPE: Final = "cloudfront"
MOST_KEY_BYTES: Final = 5120
# Ours: what ACM calls it.
KEY_TYPES: Final = {
    "rsa-2048": "RSA_2048",
    "rsa-3072": "RSA_3072",
    "rsa-4096": "RSA_4096",
    "ecdsa-p256": "EC_prime256v1",
    "ecdsa-p384": "EC_secp384r1",
    "ecdsa-p521": "EC_secp521r1",
}
_CLOUDFRONT_KEYS: Final = frozenset({"rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256"})
_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


def check_bundle(bundle: Bundle, *, target: str, scope: str) -> PrivateKeyPEM:
    """Return the bundle's key.

    Raises:
        TargetRefused: there is no key, or the scope's listeners don't take one of its type.
    """
    algorithm = bundle.facts.key_algorithm
    if bundle.key is None:
        raise TargetRefused(
            f"{target}: {bundle.entry_id} has no private key (a CA bundle); no listener can serve it.",
            subject=bundle.entry_id,
        )
    if algorithm not in KEY_TYPES:
        raise TargetRefused(
            f"{target}: ACM takes no key of type {algorithm} ({bundle.entry_id}); use one of {', '.join(KEY_TYPES)}.",
            subject=bundle.entry_id,
        )
    if scope == CLOUDFRONT_SCOPE and algorithm not in _CLOUDFRONT_KEYS:
        raise TargetRefused(
            f"{target}: CloudFront takes RSA and P-256 keys only, {bundle.entry_id} has {algorithm}; issue it with"
            " another key type.",
            subject=bundle.entry_id,
        )
    return bundle.key


def fits_in_place(old: x509.Certificate, new: x509.Certificate) -> bool:
    """Return whether ACM lets the new one take the old one's place under its ARN.

    Key type and size stay. Key usages and extended key usages may be added, not removed (but keyEncipherment on ECDSA
    and clientAuth), and neither extension can come new. Names may change.
    """
    try:
        if name_key_algorithm(old.public_key()) != name_key_algorithm(new.public_key()):
            return False
        old_usages, new_usages = _read_usages(old), _read_usages(new)
        old_purposes, new_purposes = _read_purposes(old), _read_purposes(new)
    except UNREADABLE:
        return False
    return _may_become(old_usages, new_usages) and _may_become(old_purposes, new_purposes)


def _may_become(old: frozenset[str] | None, new: frozenset[str] | None) -> bool:
    """None: the extension is absent. What may be dropped has been left out of `old` and `new` alike."""
    if old is None:
        return new is None
    return old <= (new or frozenset())


def _read_usages(certificate: x509.Certificate) -> frozenset[str] | None:
    try:
        usage = certificate.extensions.get_extension_for_oid(ExtensionOID.KEY_USAGE).value
    except x509.ExtensionNotFound:
        return None
    droppable = {"key_encipherment"} if isinstance(certificate.public_key(), ec.EllipticCurvePublicKey) else set()
    return frozenset(name for name in _USAGES if getattr(usage, name)) - droppable


def _read_purposes(certificate: x509.Certificate) -> frozenset[str] | None:
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return frozenset(purpose.dotted_string for purpose in purposes if purpose != ExtendedKeyUsageOID.CLIENT_AUTH)

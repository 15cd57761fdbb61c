"""What makes a revocation list (RFC 5280 §5) usable for a certificate, one check each. Pure: no network, no clock.

`read_crl` makes an index of the list in one pass; the checks raise `CRLUnusable` with the reason; `find_revoked` looks
a serial up. A list that fails a check says nothing: the certificate's state is unknown, not good. Indirect lists,
deltas and relative names are not supported, so they are refused. `workflows/revocation_look.py` puts the verdict
together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from certorbit.errors import CRLUnusable
from certorbit.model.crl import REASONS
from certorbit.pki.foreign_errors import UNREADABLE

SKEW: Final = timedelta(minutes=5)  # a CA's clock may be a little ahead of ours
_MOST_BEFORE_PEM: Final = 64 * 1024  # bytes of text before the block
_MOST_NUMBER: Final = 2**160  # RFC 5280 §5.2.3
_CRITICAL: Final = b"\x01\x01\xff"  # BOOLEAN TRUE in DER
_KNOWN: Final = frozenset(
    {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CRL_NUMBER,
        ExtensionOID.ISSUING_DISTRIBUTION_POINT,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
    }
)
_KNOWN_OF_ENTRY: Final = frozenset({CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE})
_PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey | dsa.DSAPublicKey
)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class CRLIndex:
    """A list that could be read. places: where each serial stands in it.

    number: None if it has none. scope: its IssuingDistributionPoint; None: it covers all of its issuer's certificates.
    """

    crl: x509.CertificateRevocationList = field(repr=False)
    places: Mapping[int, int] = field(repr=False)
    number: int | None
    this_update: datetime
    next_update: datetime
    authority_key_id: bytes | None
    scope: x509.IssuingDistributionPoint | None

    @property
    def size(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class RevokedEntry:
    """An entry of a list. reason: in the words of RFC 5280."""

    reason: str
    revoked_at: datetime


def read_crl(content: bytes) -> CRLIndex:
    """Return the list with its index.

    content: DER, or PEM with one list in it, of a bounded size: the work grows with it.

    Raises:
        CRLUnusable: it is none, of version 1, a delta, without nextUpdate, or has a critical extension that we don't
            know, on itself or on an entry (RFC 5280 §5.2, §5.3: such a list must not be used).
    """
    try:
        crl = x509.load_der_x509_crl(_decode(content))
        _check_version(crl)
        extensions = {extension.oid: extension for extension in crl.extensions}
        _check_extensions(extensions)
        places = {entry.serial_number: place for place, entry in enumerate(crl)}
        _check_entries(crl, critical=sum(extension.critical for extension in extensions.values()))
        _check_number(extensions)
        next_update = crl.next_update_utc
        if next_update is None:
            raise CRLUnusable("The list doesn't say until when it is valid.")
        number, authority, scope = (
            extensions[oid].value if oid in extensions else None
            for oid in (
                ExtensionOID.CRL_NUMBER,
                ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
                ExtensionOID.ISSUING_DISTRIBUTION_POINT,
            )
        )
        return CRLIndex(
            crl=crl,
            places=places,
            number=number.crl_number if isinstance(number, x509.CRLNumber) else None,
            this_update=crl.last_update_utc,
            next_update=next_update,
            authority_key_id=authority.key_identifier if isinstance(authority, x509.AuthorityKeyIdentifier) else None,
            scope=scope if isinstance(scope, x509.IssuingDistributionPoint) else None,
        )
    except UNREADABLE as error:
        raise CRLUnusable("What came is no revocation list, or a damaged one.") from error


def check_signed_by(index: CRLIndex, issuer: x509.Certificate) -> None:
    """Raise unless the list is the issuer's: its name, its key, its right to sign lists.

    issuer: who issued the certificate that is asked about.

    Raises:
        CRLUnusable: it is somebody else's, or forged.
    """
    try:
        if index.crl.issuer != issuer.subject:
            raise CRLUnusable("The list is of another issuer than the certificate.")
        own = _find(issuer, x509.SubjectKeyIdentifier)
        usage = _find(issuer, x509.KeyUsage)
        key = issuer.public_key()
        if own is not None and index.authority_key_id is not None and own.digest != index.authority_key_id:
            raise CRLUnusable("The list was signed by another key of its issuer (authorityKeyIdentifier).")
        if usage is not None and not usage.crl_sign:
            raise CRLUnusable("The issuer's certificate may not sign revocation lists (keyUsage without cRLSign).")
        is_signed = isinstance(key, _PublicKey) and index.crl.is_signature_valid(key)
    except (*UNREADABLE, InvalidSignature) as error:
        raise CRLUnusable("The list's signature can't be checked.") from error
    if not is_signed:
        raise CRLUnusable("The list's signature is not of the certificate's issuer: it is forged or damaged.")


def check_dates(index: CRLIndex, *, now: datetime) -> None:
    """Raise CRLUnusable unless the list is valid now."""
    if index.this_update > now + SKEW:
        raise CRLUnusable(f"The list is of the future ({_show(index.this_update)}); look at both clocks.")
    if index.next_update <= now:
        raise CRLUnusable(f"The list ended at {_show(index.next_update)}: its issuer published no newer one.")


def check_follows(index: CRLIndex, *, number: int | None, this_update: datetime) -> None:
    """Raise unless the list may take the place of an earlier one of the same issuer at the same URL.

    Raises:
        CRLUnusable: its number is lower ("CRL numbers MUST be monotonically increasing", RFC 5280 §5.2.3), it has
            none any more, or it is older: somebody plays an old list back.
    """
    known = (-1 if number is None else number, this_update)
    if (-1 if index.number is None else index.number, index.this_update) < known:
        raise CRLUnusable("The list is older than the one before: an old one was played back.")


def check_scope(index: CRLIndex, *, is_ca: bool, urls: frozenset[str]) -> frozenset[str]:
    """Return the reasons that the list covers for a certificate.

    Args:
        is_ca: whether the certificate is a CA's.
        urls: of its distribution point, in its own encoding.

    Raises:
        CRLUnusable: the list is for other certificates (a shard that this one is not in, RFC 5280 §6.3.3 (b)(2)).
    """
    scope = index.scope
    if scope is None:
        return REASONS
    if scope.indirect_crl:
        raise CRLUnusable("The list is an indirect one; those are not supported.")
    if scope.relative_name is not None:
        raise CRLUnusable("The list names its place relative to its issuer; that is not supported.")
    if scope.only_contains_attribute_certs or (scope.only_contains_ca_certs and not is_ca):
        raise CRLUnusable("The list is for certificates of another kind.")
    if scope.only_contains_user_certs and is_ca:
        raise CRLUnusable("The list is for certificates that are no CA's.")
    if scope.full_name is not None:
        names = {name.value for name in scope.full_name if isinstance(name, x509.UniformResourceIdentifier)}
        if not names & urls:
            raise CRLUnusable("The list belongs to another distribution point than the certificate's.")
    if scope.only_some_reasons is None:
        return REASONS
    return REASONS & {flag.value for flag in scope.only_some_reasons}


def find_revoked(index: CRLIndex, serial: int) -> RevokedEntry | None:
    """Return the entry of the serial; None: the list doesn't have it. By the index: the list's size doesn't matter.

    Raises:
        CRLUnusable: the entry takes a revocation back (removeFromCRL), which only a delta may.
    """
    place = index.places.get(serial)
    if place is None:
        return None
    try:
        entry = index.crl[place]
        reason = _read_reason(entry)
    except UNREADABLE as error:
        raise CRLUnusable("The list's entry of the certificate is damaged.") from error
    if reason is x509.ReasonFlags.remove_from_crl:
        raise CRLUnusable("The list takes the revocation back as only a delta may (removeFromCRL).")
    return RevokedEntry(reason.value, entry.revocation_date_utc)


def _read_reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return x509.ReasonFlags.unspecified


def _decode(content: bytes) -> bytes:
    """Return the DER of DER or PEM."""
    start = content.find(b"-----BEGIN X509 CRL-----", 0, _MOST_BEFORE_PEM)
    return content if start < 0 else x509.load_pem_x509_crl(content[start:]).public_bytes(Encoding.DER)


def _check_version(crl: x509.CertificateRevocationList) -> None:
    """Raise for version 1, which can't say what it covers: the library reads both alike."""
    raw = crl.tbs_certlist_bytes
    body = 2 + (raw[1] & 0x7F if raw[1] & 0x80 else 0)  # past the SEQUENCE's tag and length
    if raw[body] != 0x02:  # an INTEGER: the version, which only version 2 writes
        raise CRLUnusable("The list is of version 1, which can't say what it covers.")


def _check_extensions(extensions: Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]) -> None:
    if ExtensionOID.DELTA_CRL_INDICATOR in extensions:
        raise CRLUnusable("The list is a delta, which says nothing without its base.")
    for oid, extension in extensions.items():
        if extension.critical and oid not in _KNOWN:
            raise CRLUnusable(f"The list has a critical extension that is not known here ({oid.dotted_string}).")


def _check_number(extensions: Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]) -> None:
    found = extensions.get(ExtensionOID.CRL_NUMBER)
    if found is not None and isinstance(found.value, x509.CRLNumber) and found.value.crl_number >= _MOST_NUMBER:
        raise CRLUnusable("The list's number is longer than 20 octets, which no issuer may use.")


def _check_entries(crl: x509.CertificateRevocationList, *, critical: int) -> None:
    """Raise for a critical extension that we don't know on any entry.

    critical: how many critical extensions the list itself has. Reading the extensions of 20,000 entries takes longer
    than everything else here; where no more bytes look like a critical mark than the list itself needs, no entry has
    one, in whatever way the bytes are split up.
    """
    if crl.tbs_certlist_bytes.count(_CRITICAL) <= critical:
        return
    for entry in crl:
        for extension in entry.extensions:
            if extension.critical and extension.oid not in _KNOWN_OF_ENTRY:
                raise CRLUnusable(
                    f"An entry of the list has a critical extension that is not known here"
                    f" ({extension.oid.dotted_string})."
                )


def _find(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _show(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds")

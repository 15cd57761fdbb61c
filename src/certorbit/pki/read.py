"""Reads once what a certificate says of itself."""

import ipaddress
from binascii import hexlify
from hashlib import sha256
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certorbit.errors import BadMaterial
from certorbit.model.material import CertificateFacts
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.public_key import hash_public_key, name_key_algorithm

# The short names that people know from openssl; every other attribute is written by its number.
_SHORT_NAMES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.TITLE: "title",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.BUSINESS_CATEGORY: "businessCategory",
    NameOID.JURISDICTION_COUNTRY_NAME: "jurisdictionC",
    NameOID.JURISDICTION_STATE_OR_PROVINCE_NAME: "jurisdictionST",
    NameOID.JURISDICTION_LOCALITY_NAME: "jurisdictionL",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.INITIALS: "initials",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
}
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def read_facts(certificate: x509.Certificate) -> CertificateFacts:
    """Return what the certificate says of itself. Nothing is checked: not its signature, not its dates.

    Raises:
        BadMaterial: its names, key or extensions can't be read (broken, doubled, or of a kind that nobody can serve).
    """
    try:
        extensions = certificate.extensions
        public_key = certificate.public_key()
        constraints = _find(extensions, x509.BasicConstraints)
        authority = _find(extensions, x509.AuthorityKeyIdentifier)
        return CertificateFacts(
            subject=format_name(certificate.subject),
            issuer=format_name(certificate.issuer),
            san=_read_san(_find(extensions, x509.SubjectAlternativeName)),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            serial=format(certificate.serial_number, "x"),
            cdp=_read_cdp(_find(extensions, x509.CRLDistributionPoints)),
            fingerprint=sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
            public_key_sha256=hash_public_key(public_key),
            key_algorithm=name_key_algorithm(public_key),
            authority_key_id=(authority.key_identifier or b"").hex() if authority else "",
            is_ca=constraints is not None and constraints.ca,
        )
    except UNREADABLE as error:
        raise BadMaterial(
            "cert_body: a certificate's names, key or extensions can't be read; they are damaged or of an unknown"
            f" kind ({type(error).__name__}). Have it issued again.",
            subject="cert_body",
        ) from error


def format_name(name: x509.Name) -> str:
    """Return the name as `C=US, O=Let's Encrypt, CN=R11`: in certificate order; "+" joins a multi-valued part.

    Values are not escaped (contract.md has them plain), but for what isn't printable.
    """
    return ", ".join(
        "+".join(
            f"{_SHORT_NAMES.get(attribute.oid, attribute.oid.dotted_string)}={_format_value(attribute.value)}"
            for attribute in part
        )
        for part in name.rdns
    )


def _format_value(value: str | bytes) -> str:
    if isinstance(value, bytes):  # a BIT STRING (x500UniqueIdentifier): RFC 4514 §2.4 writes such values in hex
        return "#" + hexlify(value).decode("ascii")
    return make_printable(value)


def make_printable(text: str) -> str:
    """Return hostile text fit for a column and a line: what isn't printable (NUL, line ends) as \\xNN or \\uNNNN."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _read_san(names: x509.SubjectAlternativeName | None) -> tuple[str, ...]:
    """Return the DNS names and addresses in order; other kinds (mail, URI, directory names) are no identifiers."""
    found: list[str] = []
    for name in names or ():
        if isinstance(name, x509.DNSName):
            found.append(make_printable(name.value))
        elif isinstance(name, x509.IPAddress) and isinstance(name.value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            found.append(str(name.value))
    return tuple(found)


def _read_cdp(points: x509.CRLDistributionPoints | None) -> tuple[str, ...]:
    """Return the http(s) URLs (RFC 5280 §4.2.1.13); LDAP and directory names can't be fetched by us."""
    return tuple(
        make_printable(name.value)
        for point in points or ()
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier) and name.value.lower().startswith(("http://", "https://"))
    )

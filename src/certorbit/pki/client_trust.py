"""Which CAs of a bundle clients' certificates may still come from, by the revocation lists in it.

OpenSSL takes every CA of a bundle for the end of a path, and then looks at the revocation of the client's certificate
alone. A CA in the bundle that another one of the bundle has revoked would go on letting clients in.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from certorbit.errors import BadMaterial
from certorbit.pki.chain import is_issued_by
from certorbit.pki.crl_points import identify_issuer
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.read import format_name

_CRL: Final = "X509 CRL"
_BLOCK: Final = re.compile(rf"-----BEGIN ({_CRL}|(?:X509 |TRUSTED )?CERTIFICATE)-----.+?-----END \1-----", re.DOTALL)
_MOST_TRIES: Final = 8  # CAs of one name: one that changed its key twice has three


@dataclass(frozen=True, slots=True)
class UsableTrust:
    """A bundle that can be given to OpenSSL.

    pem: CAs and lists. has_lists: the client's certificate has to be looked up.
    has_whole_paths: so has each CA up to the root: all of them lead to roots of the bundle, by lists that it has.
    left_out: subjects of the CAs that are revoked, or below a revoked one.
    """

    pem: str
    has_lists: bool = False
    has_whole_paths: bool = False
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Authority:
    """A CA's certificate. id: the same for all certificates of its name and key. issuer: such an id; "": not here."""

    pem: str
    certificate: x509.Certificate
    id: str
    issuer: str

    @property
    def is_root(self) -> bool:
        return self.issuer == self.id


@dataclass(frozen=True, slots=True)
class _List:
    """A revocation list. signer: id of the CA; "": none of the bundle."""

    pem: str
    crl: x509.CertificateRevocationList
    signer: str


def find_usable_trust(text: str) -> UsableTrust:
    """Return the bundle without CAs that are revoked by it; as it is if there is no revocation list.

    A revocation counts whatever the age of its list. Where the whole path can't be looked up, lists of CAs that are
    not in the bundle are left out: nothing could tell whether such a CA is revoked, and a client may show it.

    text: PEM of CAs and lists, from the operator.

    Raises:
        BadMaterial: something in it can't be read.
    """
    blocks = [(match[1], match[0] + "\n") for match in _BLOCK.finditer(text)]
    if not any(label == _CRL for label, _ in blocks):
        return UsableTrust(text)
    try:
        authorities = _read_authorities([(label, pem) for label, pem in blocks if label != _CRL])
        lists = _read_lists([pem for label, pem in blocks if label == _CRL], authorities)
    except UNREADABLE as error:
        raise BadMaterial("client_ca: a CA certificate or a list in it can't be read.", subject="tls") from error
    kept = _leave_out_revoked(authorities, lists)
    has_whole_paths = _lead_to_roots(kept, lists)
    ids = {authority.id for authority in kept}
    usable = [one for one in lists if has_whole_paths or one.signer in ids]
    return UsableTrust(
        pem="".join([*(authority.pem for authority in kept), *(one.pem for one in usable)]),
        has_lists=True,
        has_whole_paths=has_whole_paths,
        left_out=tuple(format_name(one.certificate.subject) for one in authorities if one not in kept),
    )


def _read_authorities(blocks: Iterable[tuple[str, str]]) -> list[_Authority]:
    read: list[tuple[str, x509.Certificate, str]] = []
    for label, pem in blocks:
        if label.startswith("TRUSTED"):
            raise BadMaterial(
                "client_ca: a certificate in it is in OpenSSL's own form. Convert it: openssl x509 -in file.pem",
                subject="tls",
            )
        certificate = x509.load_pem_x509_certificate(pem.replace("X509 CERTIFICATE", "CERTIFICATE").encode())
        read.append((pem, certificate, identify_issuer(certificate)))
    by_name: dict[x509.Name, dict[str, x509.Certificate]] = {}
    for _, certificate, own_id in read:
        by_name.setdefault(certificate.subject, {}).setdefault(own_id, certificate)

    def find_issuer(certificate: x509.Certificate) -> str:
        candidates = list(by_name.get(certificate.issuer, {}).items())[:_MOST_TRIES]
        return next((found for found, candidate in candidates if is_issued_by(certificate, candidate)), "")

    return [_Authority(pem, certificate, own_id, find_issuer(certificate)) for pem, certificate, own_id in read]


def _read_lists(pems: Iterable[str], authorities: Sequence[_Authority]) -> list[_List]:
    by_name: dict[x509.Name, dict[str, x509.Certificate]] = {}
    for authority in authorities:
        of_name = by_name.setdefault(authority.certificate.subject, {})
        of_name.setdefault(authority.id, authority.certificate)

    def find_signer(crl: x509.CertificateRevocationList) -> str:
        candidates = list(by_name.get(crl.issuer, {}).items())[:_MOST_TRIES]
        return next((found for found, candidate in candidates if _is_signed_by(crl, candidate)), "")

    crls = [(pem, x509.load_pem_x509_crl(pem.encode())) for pem in pems]
    return [_List(pem, crl, find_signer(crl)) for pem, crl in crls]


def _is_signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type] # kinds that sign none raise
    except UNREADABLE:
        return False


def _leave_out_revoked(authorities: Sequence[_Authority], lists: Sequence[_List]) -> list[_Authority]:
    """Return the CAs that no list names, and that aren't below such a one alone."""
    kept = [one for one in authorities if not _is_revoked(one, lists)]
    while True:
        ids = {one.id for one in kept}
        remaining = [one for one in kept if one.issuer == "" or one.issuer in ids]
        if len(remaining) == len(kept):
            return kept
        kept = remaining


def _is_revoked(authority: _Authority, lists: Sequence[_List]) -> bool:
    serial = authority.certificate.serial_number
    return authority.issuer != "" and any(
        one.signer == authority.issuer and one.crl.get_revoked_certificate_by_serial_number(serial) is not None
        for one in lists
    )


def _lead_to_roots(authorities: Sequence[_Authority], lists: Sequence[_List]) -> bool:
    """Return whether each CA leads to a root among them, and has a list that would name it."""
    signers = {one.signer for one in lists}
    if not all(one.issuer in signers for one in authorities):
        return False
    reached: set[str] = set()
    while new := {one.id for one in authorities if one.is_root or one.issuer in reached} - reached:
        reached |= new
    return all(one.issuer in reached for one in authorities)

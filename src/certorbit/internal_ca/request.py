"""Reads the signing request that a finalisation brings (RFC 8555 §7.4)."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certorbit.errors import BadIdentifier, IssuerRefused
from certorbit.model.identifiers import Identifier, normalise_identifiers
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.public_key import find_key_fault

ACME_ERROR = "urn:ietf:params:acme:error:"
LeafPublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Request:
    """What a certificate is asked for: the key (possession is proven) and the names, in the request's order."""

    public_key: LeafPublicKey
    identifiers: tuple[Identifier, ...]


def read_request(csr_der: bytes) -> Request:
    """Return what the request asks for. Its subject and its other extensions are not looked at.

    Raises:
        IssuerRefused: badCSR (unreadable, wrong signature, no names or other kinds of names), badPublicKey.
    """
    try:
        csr = x509.load_der_x509_csr(csr_der)
        is_signed = csr.is_signature_valid
        key = csr.public_key()
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise _refuse("badCSR", "The request has no subjectAltName extension.") from error
    except UNREADABLE as error:
        raise _refuse("badCSR", "The request can't be read.") from error
    if not is_signed:
        raise _refuse("badCSR", "The request's signature doesn't fit its key.")
    fault = find_key_fault(key)
    if fault or not isinstance(key, LeafPublicKey):
        raise _refuse("badPublicKey", f"The request's key can't be used: {fault}.")
    return Request(public_key=key, identifiers=_read_identifiers(names))


def _read_identifiers(names: x509.SubjectAlternativeName) -> tuple[Identifier, ...]:
    texts: list[str] = []
    for name in names:
        if not isinstance(name, x509.DNSName | x509.IPAddress):
            raise _refuse("badCSR", "The request names something else than DNS names and IP addresses.")
        texts.append(str(name.value))
    try:
        return normalise_identifiers(texts)
    except BadIdentifier as error:
        raise _refuse("badCSR", f"The request has a name that can't be in a certificate. {error.message}") from error


def _refuse(kind: str, detail: str) -> IssuerRefused:
    return IssuerRefused(f"The built-in CA refused. {detail}", type=ACME_ERROR + kind, detail=detail)

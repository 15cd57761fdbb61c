"""The certificate signing request (RFC 2986, RFC 8555 §7.4)."""

import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.model.identifiers import Identifier, IdentifierType
from certorbit.model.material import PrivateKeyPEM
from certorbit.pki.private_key import load_own_key


def make_csr(key: PrivateKeyPEM, identifiers: Sequence[Identifier]) -> bytes:
    """Return a request (DER) for the identifiers in the given order, signed by the key.

    All names stand in subjectAltName and none in the subject: RFC 8555 §7.4 reads either, a common name holds only
    64 characters, and CAs that still want one choose it themselves.
    """
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(make_san(identifiers), critical=False)
        .sign(load_own_key(key), SHA256())
        .public_bytes(Encoding.DER)
    )


def make_san(identifiers: Sequence[Identifier]) -> x509.SubjectAlternativeName:
    """Return the extension with the identifiers in the given order (addresses: RFC 8738 §3)."""
    return x509.SubjectAlternativeName(
        [
            x509.DNSName(identifier.value)
            if identifier.type is IdentifierType.DNS
            else x509.IPAddress(ipaddress.ip_address(identifier.value))
            for identifier in identifiers
        ]
    )

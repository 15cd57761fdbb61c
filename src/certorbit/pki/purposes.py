"""What a certificate may be used for: by its key usage and its extended key usage (RFC 5280 §4.2.1.3, §4.2.1.12)."""

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from certorbit.errors import BadMaterial
from certorbit.pki.foreign_errors import UNREADABLE


def is_for_clients(certificate: x509.Certificate) -> bool:
    """Return whether a TLS server may take it from a client: clientAuth, any purpose, or nothing is said."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except UNREADABLE as error:
        raise _unreadable(error) from error
    return bool({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage))


def find_authority_fault(certificate: x509.Certificate) -> str:
    """Return why a CA certificate can't sign certificates, as the end of a sentence; "" if it can."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    except UNREADABLE as error:
        raise _unreadable(error) from error
    return "" if usage.key_cert_sign else "may not sign certificates (its key usage lacks keyCertSign)"


def _unreadable(error: Exception) -> BadMaterial:
    return BadMaterial(
        f"cert_body: a certificate's key usage can't be read ({type(error).__name__}). Have it issued again.",
        subject="cert_body",
    )

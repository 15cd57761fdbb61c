"""The name of a certificate in ARI (RFC 9773 §4.1)."""

from base64 import urlsafe_b64encode

from cryptography import x509

from certorbit.errors import BadMaterial
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.pem import read_certificates


def make_cert_id(chain_pem: str) -> str | None:
    """Return the CertID of the chain's leaf: `<AKI keyIdentifier>.<serial number>`, both base64url without padding.

    It is what `GET renewalInfo` is asked for and what `replaces` of an order names (RFC 9773 §5). Nobody has to be
    asked for it, so it does not depend on a fetch that went well.

    None: the certificate has no AKI keyIdentifier or no positive serial number, so it has no CertID (an old or
    home-made CA; public ones must set both).

    Raises:
        BadMaterial: the text holds no readable certificate, or the leaf's extensions are damaged.
    """
    leaf = read_certificates(chain_pem, subject="chain")[0]
    try:
        key_identifier = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    except UNREADABLE as error:
        raise BadMaterial(
            "chain: the extensions of the first certificate can't be read; they are damaged. Have it issued again.",
            subject="chain",
        ) from error
    # RFC 5280 §4.1.2.2: serial numbers are positive; cryptography gives others as negative numbers or zero.
    if not key_identifier or leaf.serial_number <= 0:
        return None
    return f"{_encode(key_identifier)}.{_encode(_der_integer(leaf.serial_number))}"


def _der_integer(number: int) -> bytes:
    """Return the value octets of a positive DER INTEGER (X.690 §8.3): a zero octet first if the top bit is set."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _encode(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode("ascii").rstrip("=")

"""Keys that signatures are checked with: those of CAs in chains and bundles, which are the uploader's choice.

The work grows with the square of an RSA key's bits and with its exponent's length: seconds for a few certificates.
"""

from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import Certificate

from certorbit.errors import BadMaterial
from certorbit.pki.public_key import find_public_key
from certorbit.pki.read import format_name

# Public CAs' keys have up to 4096 bits and the exponents 3 and 65537.
MOST_BITS: Final = 8192
MOST_EXPONENT: Final = 2**32


def check_signer_keys(certificates: Iterable[Certificate], *, subject: str) -> None:
    """Raise unless signatures can be checked with all of their keys in no time.

    Raises:
        BadMaterial: one's RSA key is far beyond any in use.
    """
    for certificate in certificates:
        key = find_public_key(certificate)
        if isinstance(key, RSAPublicKey) and (fault := _find_fault(key)):
            name = format_name(certificate.subject)[:200]
            raise BadMaterial(f"{subject}: '{name}': {fault}. Leave it out.", subject=subject)


def _find_fault(key: RSAPublicKey) -> str:
    if key.key_size > MOST_BITS:
        return f"a CA's RSA key of {key.key_size} bits is too long; at most {MOST_BITS} are taken"
    exponent = key.public_numbers().e
    if exponent > MOST_EXPONENT:
        return f"a CA's RSA key with an exponent of {exponent.bit_length()} bits is not taken; 65537 is usual"
    return ""

"""CRLs as clients give them: checked to be CRLs, and written again so that nothing else is kept with them."""

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial

_BEGIN = "-----BEGIN X509 CRL-----"


def read_crls(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the CRLs as plain PEM. Neither signature nor dates are checked here.

    Raises:
        BadMaterial: an item is not one PEM CRL; the message says which, counted from 1.
    """
    return tuple(_read_crl(text, place=place) for place, text in enumerate(texts, start=1))


def _read_crl(text: str, *, place: int) -> str:
    refusal = BadMaterial(
        f"crl: item {place} is not a certificate revocation list; give one `{_BEGIN}` block in each item.",
        subject="crl",
    )
    if text.count(_BEGIN) != 1:
        raise refusal
    try:
        return x509.load_pem_x509_crl(text.strip().encode()).public_bytes(Encoding.PEM).decode()
    except ValueError:
        raise refusal from None

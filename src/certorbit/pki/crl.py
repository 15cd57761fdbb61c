"""CRLs as clients give them with a bundle: each the list of one of its CAs; written again as plain PEM."""

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial, CRLUnusable
from certorbit.pki.crl_check import CRLIndex, check_signed_by, read_crl
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import format_name

_BEGIN = "-----BEGIN X509 CRL-----"


def read_crls(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the CRLs as plain PEM. Neither signature nor dates are checked here.

    Raises:
        BadMaterial: an item is not one PEM CRL; the message says which, counted from 1.
    """
    return tuple(_read_crl(text, place=place) for place, text in enumerate(texts, start=1))


def check_bundle_crls(crls: Sequence[str], *, bundle_pem: str) -> None:
    """Raise unless the CRLs can be used with the bundle. Takes milliseconds for a long list: call it in a thread.

    Dates are not checked: a list that has ended is taken, like a certificate that has, and then nobody is let in.

    Args:
        crls: as `read_crls` returns them; none is fine.
        bundle_pem: the CAs.

    Raises:
        BadMaterial: a list is of no CA of the bundle, or forged; or a CA has none. Proxies that are given a list look
            for one of each CA on the way to the root, and let nobody in where one is missing.
    """
    if not crls:
        return
    authorities = read_certificates(bundle_pem, subject="cert_body")
    covered: set[x509.Name] = set()
    for place, text in enumerate(crls, start=1):
        try:
            index = read_crl(text.encode())
        except CRLUnusable as error:
            raise BadMaterial(f"crl: item {place} can't be used. {error.message}", subject="crl") from error
        covered.add(_find_signer(index, authorities, place=place).subject)
    for authority in authorities:
        if authority.subject not in covered:
            raise BadMaterial(
                f"crl: no list is of '{_show(authority.subject)}'. Who checks clients by lists needs one of each CA of"
                " the bundle, else nobody is let in: give them all, or none.",
                subject="crl",
            )


def _find_signer(index: CRLIndex, authorities: Sequence[x509.Certificate], *, place: int) -> x509.Certificate:
    named = [authority for authority in authorities if authority.subject == index.crl.issuer]
    reason = "Its issuer is none of them."
    for authority in named:
        try:
            check_signed_by(index, authority)
        except CRLUnusable as error:
            reason = error.message
        else:
            return authority
    raise BadMaterial(
        f"crl: item {place} (of '{_show(index.crl.issuer)}') is not signed by a CA of the bundle. {reason}",
        subject="crl",
    )


def _read_crl(text: str, *, place: int) -> str:
    refusal = BadMaterial(
        f"crl: item {place} is not a certificate revocation list; give one `{_BEGIN}` block in each item.",
        subject="crl",
    )
    if text.count(_BEGIN) != 1:
        raise refusal
    try:
        return x509.load_pem_x509_crl(text.strip().encode()).public_bytes(Encoding.PEM).decode()
    except UNREADABLE:
        raise refusal from None


def _show(name: x509.Name) -> str:
    return format_name(name)[:200]

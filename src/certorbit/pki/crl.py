"""CRLs as clients give them with a bundle: each the list of one of its CAs; written again as plain PEM."""

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import BadMaterial, CRLUnusable
from certorbit.pki.crl_check import read_crl
from certorbit.pki.crl_signers import BundleSigners
from certorbit.pki.foreign_errors import UNREADABLE
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import format_name
from certorbit.pki.upload import MOST_AUTHORITIES

_BEGIN = "-----BEGIN X509 CRL-----"


def read_crls(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the CRLs as plain PEM, each one once. Neither signature nor dates are checked here.

    Raises:
        BadMaterial: an item is not one PEM CRL (the message says which, counted from 1), or there are too many.
    """
    read: dict[str, str] = {}
    for place, text in enumerate(texts, start=1):
        if text in read:
            continue
        if len(read) == MOST_AUTHORITIES:
            raise BadMaterial(f"crl: more than {MOST_AUTHORITIES} lists. Give one of each CA.", subject="crl")
        read[text] = _read_crl(text, place=place)
    return tuple(dict.fromkeys(read.values()))


def check_bundle_crls(crls: Sequence[str], *, bundle_pem: str) -> None:
    """Raise unless the CRLs can be used with the bundle. Hostile ones take half a second: call it in a thread.

    Dates are not checked: a list that has ended is taken, like a certificate that has, and then nobody is let in.

    Args:
        crls: as `read_crls` returns them; none is fine.
        bundle_pem: the CAs.

    Raises:
        BadMaterial: a list is of no CA of the bundle, or forged; a CA has two, or none. Proxies that are given a list
            look for one of each CA on the way to the root, and let nobody in where one is missing. Or too many CAs
            have one name to find out which of them signed.
    """
    if not crls:
        return
    authorities = read_certificates(bundle_pem, subject="cert_body")
    signers = BundleSigners(authorities)
    places: dict[str, int] = {}
    for place, text in enumerate(crls, start=1):
        issuer_id = _find_signer(text, signers, place=place)
        if issuer_id in places:
            raise BadMaterial(
                f"crl: items {places[issuer_id]} and {place} are of the same CA,"
                f" '{_show(signers.ids[issuer_id].subject)}'. Give its newest list alone.",
                subject="crl",
            )
        places[issuer_id] = place
    covered = {signers.ids[issuer_id].subject for issuer_id in places}
    for authority in authorities:
        if authority.subject not in covered:
            raise BadMaterial(
                f"crl: no list is of '{_show(authority.subject)}'. Who checks clients by lists needs one of each CA of"
                " the bundle, else nobody is let in: give them all, or none.",
                subject="crl",
            )


def _find_signer(text: str, signers: BundleSigners, *, place: int) -> str:
    try:
        index = read_crl(text.encode())
    except CRLUnusable as error:
        raise BadMaterial(f"crl: item {place} can't be used. {error.message}", subject="crl") from error
    try:
        return signers.find(index)
    except CRLUnusable as error:
        raise BadMaterial(
            f"crl: item {place} (of '{_show(index.crl.issuer)}') is not signed by a CA of the bundle. {error.message}",
            subject="crl",
        ) from error


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

"""Where the revocation lists of a bundle's CAs are published, and which of two lists is to be kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import CRLUnusable
from certorbit.pki.crl_check import CRLIndex, check_follows, check_signed_by, read_crl
from certorbit.pki.crl_points import MOST_URLS, identify_issuer
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts


@dataclass(frozen=True, slots=True)
class ListPlace:
    """One CA of a bundle (its certificates by several issuers are one). urls: where its list is.

    held: its list that the bundle has already; None: none.
    """

    issuer: x509.Certificate
    issuer_id: str
    urls: tuple[str, ...]
    held: CRLIndex | None


def find_places(bundle_pem: str, crls: Sequence[str]) -> list[ListPlace]:
    """Return one place for each CA, in the bundle's order.

    Its URLs stand in the CAs of the bundle that it issued (cRLDistributionPoints), and in its own list
    (issuingDistributionPoint). Clients' certificates, which name it too, aren't here.

    Raises:
        BadMaterial: the bundle can't be read.
    """
    authorities = read_certificates(bundle_pem)
    lists = [index for text in crls if (index := _read(text)) is not None]
    places: dict[str, ListPlace] = {}
    for authority in authorities:
        issuer_id = identify_issuer(authority)
        if issuer_id in places:
            continue
        held = next((index for index in lists if _is_signed_by(index, authority)), None)
        issued = [one for one in authorities if one.issuer == authority.subject]
        urls = [url for one in issued for url in read_facts(one).cdp]
        places[issuer_id] = ListPlace(
            issuer=authority,
            issuer_id=issuer_id,
            urls=tuple(dict.fromkeys([*urls, *(_urls_of(held) if held is not None else ())]))[:MOST_URLS],
            held=held,
        )
    return list(places.values())


def is_for_all(index: CRLIndex) -> bool:
    """Return whether the list tells of all certificates of its CA: one of a part would let the others' revoked in."""
    scope = index.scope
    return scope is None or not (
        scope.only_contains_user_certs
        or scope.only_contains_ca_certs
        or scope.only_contains_attribute_certs
        or scope.indirect_crl
        or scope.only_some_reasons
    )


def is_newer(index: CRLIndex, held: CRLIndex | None) -> bool:
    """Return whether the list is to take the held one's place."""
    if held is None:
        return True
    if (index.number, index.this_update) == (held.number, held.this_update):
        return False
    try:
        check_follows(index, number=held.number, this_update=held.this_update)
    except CRLUnusable:
        return False
    return True


def write_crl(index: CRLIndex) -> str:
    return index.crl.public_bytes(Encoding.PEM).decode()


def _read(text: str) -> CRLIndex | None:
    try:
        return read_crl(text.encode())
    except CRLUnusable:  # stored before lists were checked at upload
        return None


def _is_signed_by(index: CRLIndex, authority: x509.Certificate) -> bool:
    try:
        check_signed_by(index, authority)
    except CRLUnusable:
        return False
    return True


def _urls_of(index: CRLIndex) -> list[str]:
    names = index.scope.full_name if index.scope is not None else None
    return [name.value for name in names or () if isinstance(name, x509.UniformResourceIdentifier)]

"""Where the revocation lists of a bundle's CAs are published, and which of two lists is to be kept."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.errors import CRLUnusable
from certorbit.pki.crl_check import CRLIndex, check_follows, read_crl
from certorbit.pki.crl_points import MOST_URLS
from certorbit.pki.crl_signers import BundleSigners
from certorbit.pki.pem import read_certificates
from certorbit.pki.read import read_facts

MOST_BUNDLE_URLS: Final = 512  # of all its CAs together: two for each of the most that it may have


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
    """Return one place for each CA, in the bundle's order. Takes up to half a second: call it in a thread.

    Its URLs stand in the CAs of the bundle that it issued (cRLDistributionPoints), and in its own list
    (issuingDistributionPoint). Clients' certificates, which name it too, aren't here.

    Raises:
        BadMaterial: the bundle can't be read, or it can't be told whose its lists are.
    """
    authorities = read_certificates(bundle_pem)
    signers = BundleSigners(authorities)
    held = _find_held(crls, signers)
    named = _find_named_urls(authorities)
    most = min(MOST_URLS, max(1, MOST_BUNDLE_URLS // len(signers.ids)))
    places: list[ListPlace] = []
    for issuer_id, authority in signers.ids.items():
        own = held.get(issuer_id)
        urls = dict.fromkeys([*named.get(authority.subject, ()), *(_urls_of(own) if own is not None else ())])
        places.append(ListPlace(issuer=authority, issuer_id=issuer_id, urls=tuple(urls)[:most], held=own))
    return places


def write_crls(indices: Iterable[CRLIndex]) -> tuple[str, ...]:
    """Return the lists as PEM. Takes a millisecond for each MiB: call it in a thread."""
    return tuple(index.crl.public_bytes(Encoding.PEM).decode() for index in indices)


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


def _find_held(crls: Sequence[str], signers: BundleSigners) -> dict[str, CRLIndex]:
    """Return the first list of each CA that has one, by the CA's id."""
    held: dict[str, CRLIndex] = {}
    for text in crls:
        try:
            index = read_crl(text.encode())
            held.setdefault(signers.find(index), index)
        except CRLUnusable:  # stored before lists were checked at upload
            continue
    return held


def _find_named_urls(authorities: Sequence[x509.Certificate]) -> dict[x509.Name, tuple[str, ...]]:
    """Return what the certificates of each issuer say of where its list is, by the issuer's name."""
    urls: dict[x509.Name, dict[str, None]] = {}
    for authority in authorities:
        of_issuer = urls.setdefault(authority.issuer, {})
        if len(of_issuer) < MOST_URLS:
            of_issuer.update(dict.fromkeys(read_facts(authority).cdp))
    return {name: tuple(of_issuer)[:MOST_URLS] for name, of_issuer in urls.items()}


def _urls_of(index: CRLIndex) -> list[str]:
    names = index.scope.full_name if index.scope is not None else None
    return [name.value for name in names or () if isinstance(name, x509.UniformResourceIdentifier)]

"""Which CA of a bundle signed a revocation list, with few signature checks whatever the bundle and the lists are.

Names and keys are the uploader's: hundreds of CAs may have one name, and a list may be of the last one that is tried.
So the list's authorityKeyIdentifier chooses before any signature is checked, and what is left to try is bounded.
"""

from collections.abc import Sequence
from typing import Final

from cryptography import x509

from certorbit.errors import BadMaterial, CRLUnusable
from certorbit.pki.crl_check import CRLIndex, check_signed_by
from certorbit.pki.crl_points import identify_issuer
from certorbit.pki.foreign_errors import UNREADABLE

# Of each list, whatever its size: a CA that changes its key has two, and may write no identifiers.
FREE_TRIES: Final = 2
MOST_MORE_TRIES: Final = 128  # of all lists together
_BYTES_OF_A_TRY: Final = 48 * 1024  # a list of this size takes twice as long to check as an empty one


class BundleSigners:
    """The CAs of a bundle. A CA's certificates by several issuers, with one name and key, are one CA.

    ids: of the CAs, as `identify_issuer` tells them apart, each with its first certificate; in the bundle's order.
    """

    def __init__(self, authorities: Sequence[x509.Certificate]) -> None:
        """Raises BadMaterial: the key or the extensions of one can't be read."""
        self.ids: dict[str, x509.Certificate] = {}
        # By name, then by key identifier (None: it has none), then by CA: the certificate to check with.
        self._by_name: dict[x509.Name, dict[bytes | None, dict[str, x509.Certificate]]] = {}
        self._tries_left = MOST_MORE_TRIES
        try:
            for authority in authorities:
                self._add(authority)
        except UNREADABLE as error:
            raise BadMaterial(
                "cert_body: the key or the extensions of a CA can't be read. Leave it out.", subject="cert_body"
            ) from error

    def find(self, index: CRLIndex) -> str:
        """Return the id of the CA that signed the list.

        Raises:
            CRLUnusable: none of them did.
            BadMaterial: too many of them would have to be tried, for this list and those before it.
        """
        of_name = self._by_name.get(index.crl.issuer)
        if of_name is None:
            raise CRLUnusable("Its issuer is none of them.")
        reason = "It was signed by another key of its issuer (authorityKeyIdentifier)."
        for number, (issuer_id, authority) in enumerate(_choose(of_name, index.authority_key_id)):
            if number >= FREE_TRIES:
                self._count_try(index)
            try:
                check_signed_by(index, authority)
            except CRLUnusable as error:
                reason = error.message
            else:
                return issuer_id
        raise CRLUnusable(reason)

    def _add(self, authority: x509.Certificate) -> None:
        issuer_id = identify_issuer(authority)
        self.ids.setdefault(issuer_id, authority)
        of_key = self._by_name.setdefault(authority.subject, {}).setdefault(_find_key_id(authority), {})
        if issuer_id not in of_key or _may_sign_lists(authority):
            of_key[issuer_id] = authority

    def _count_try(self, index: CRLIndex) -> None:
        self._tries_left -= 1 + len(index.crl.tbs_certlist_bytes) // _BYTES_OF_A_TRY
        if self._tries_left < 0:
            raise BadMaterial(
                "crl: too many CAs of the bundle have one name, and nothing in the lists tells which of them signed."
                " Give lists with an authorityKeyIdentifier, or leave out the CAs that are no longer in use.",
                subject="crl",
            )


def _choose(
    of_name: dict[bytes | None, dict[str, x509.Certificate]], key_id: bytes | None
) -> list[tuple[str, x509.Certificate]]:
    """Return the CAs of a name that may have signed a list, the likeliest first. key_id: as the list says."""
    wanted = [None, *of_name] if key_id is None else [key_id, None]
    chosen: dict[str, x509.Certificate] = {}
    for key in wanted:
        for issuer_id, authority in of_name.get(key, {}).items():
            chosen.setdefault(issuer_id, authority)
    return list(chosen.items())


def _find_key_id(authority: x509.Certificate) -> bytes | None:
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None


def _may_sign_lists(authority: x509.Certificate) -> bool:
    try:
        return authority.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True

"""Where revocation lists come from. `revocation/lists.py` downloads and keeps them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cryptography import x509

from certorbit.pki.crl_check import CRLIndex


@dataclass(frozen=True, slots=True)
class CRLCopy:
    """An issuer's list at a URL, as far as it can be had now.

    index: signed by the issuer and valid now; None: there is none, and `problem` says why. A problem beside an index
    is one of the last download: the list that was there before is still valid.
    next_look_at: when asking again can give another answer; after now.
    """

    index: CRLIndex | None
    problem: str
    next_look_at: datetime


class CRLSource(Protocol):
    async def find(self, url: str, *, issuer: x509.Certificate, issuer_id: str) -> CRLCopy:
        """Return the issuer's list at the URL; downloads it if that is due. Many may ask at once: one downloads.

        Whether the list covers a certificate (`check_scope`) is the caller's to look at. A list that can't be had is
        no error: the copy says so.

        issuer_id: `pki.crl_points.identify_issuer` of the issuer.

        Raises:
            Unreachable: our database (phase "database").
        """
        ...

    async def find_own(self, issuer_id: str) -> CRLCopy | None:
        """Return the built-in CA's list if it is the issuer, without a download; None: it is not."""
        ...

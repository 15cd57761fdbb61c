"""Why a certificate is revoked (RFC 5280 §5.3.1), as far as the holder of one can say so."""

from enum import IntEnum


class RevocationReason(IntEnum):
    """CRLReason numbers. Left out: those of CA certificates, of holds, and what only a CA can know.

    Let's Encrypt takes all but AFFILIATION_CHANGED; which ones a CA takes is for the CA to say (badRevocationReason).
    """

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5

    @property
    def word(self) -> str:
        """Return the reason as lists name it (RFC 5280 §5.3.1), for example `keyCompromise`."""
        first, *rest = self.name.lower().split("_")
        return first + "".join(part.capitalize() for part in rest)

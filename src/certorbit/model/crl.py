"""What revocation lists say of a certificate: good, revoked, or unknown, with its age (RFC 5280 §6.3)."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

HOLD = "certificateHold"  # RFC 5280 §5.3.1: the one reason that can be taken back
KEY_COMPROMISE = "keyCompromise"
REASONS = frozenset(
    {
        KEY_COMPROMISE,
        "cACompromise",
        "affiliationChanged",
        "superseded",
        "cessationOfOperation",
        HOLD,
        "privilegeWithdrawn",
        "aACompromise",
    }
)
"""The reasons that have to be covered before a certificate is good (RFC 5280 §6.3.3: all-reasons)."""


class VerdictState(StrEnum):
    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known of one version of a certificate.

    reason: why it is revoked, in the words of RFC 5280 ("keyCompromise"); "" unless it is.
    revoked_at: since when; None unless it is.
    checked_at: when the lists were looked at; None: not yet.
    valid_until: when the list that it rests on ends; None if it rests on none: it is the CA's own answer to us.
    sources: where those lists came from.
    problems: why it is unknown, or what else went wrong, a sentence each.
    """

    state: VerdictState
    reason: str = ""
    revoked_at: datetime | None = None
    checked_at: datetime | None = None
    valid_until: datetime | None = None
    sources: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def at(self, now: datetime) -> "Verdict":
        """Return the verdict as it stands now: one that rests on a list that has ended is unknown, never good.

        A revocation stands without its list, for no CA takes it back, but for a hold.
        """
        if self.valid_until is None or now < self.valid_until or self.state is VerdictState.UNKNOWN:
            return self
        if self.state is VerdictState.REVOKED and self.reason != HOLD:
            return self
        stale = f"The list that it rested on ended at {self.valid_until.isoformat(timespec='seconds')}."
        return replace(self, state=VerdictState.UNKNOWN, reason="", revoked_at=None, problems=(stale, *self.problems))

    @property
    def is_revoked(self) -> bool:
        return self.state is VerdictState.REVOKED


NOT_LOOKED = Verdict(state=VerdictState.UNKNOWN, problems=("It was not looked at yet.",))


def follow(before: Verdict, found: Verdict, *, now: datetime) -> Verdict:
    """Return what is known after a look: what it found, unless it found nothing out and a revocation is known.

    A revocation that rests on no list is the CA's own word to us; a list that was made before doesn't take it back.
    """
    if before.is_revoked and before.valid_until is None and not found.is_revoked:
        return replace(before, checked_at=found.checked_at, problems=found.problems)
    if found.state is VerdictState.UNKNOWN and before.at(now).is_revoked:
        return replace(before, checked_at=found.checked_at, problems=found.problems)
    return found

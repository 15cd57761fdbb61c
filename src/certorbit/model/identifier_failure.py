"""What is remembered of a name that a CA could not validate, and when it may be tried again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certorbit.errors import RetryRule
from certorbit.model.backoff import LADDER, LADDER_JITTER, Uniform
from certorbit.model.ca_limits import AccountKey
from certorbit.model.operation import Problem

LONGEST_SENTENCE = 1000  # of a CA, as it is kept
# Types of problems of our own: nothing was sent to the CA. Others are the CA's, or names of error classes.
LIMITED = "urn:certorbit:error:limited"  # a limit of the CA would be exceeded
FAILING = "urn:certorbit:error:failing"  # a name failed not long ago


@dataclass(frozen=True, slots=True)
class IdentifierFailure:
    """A name that fails at an account: one row until it succeeds.

    failures: in a row, from 1. rung: the place on the ladder, from 1: an operator's act starts afresh there, while
        the failures go on being counted.
    next_at: not before; all certificates with this name keep to it.
    sentence: the CA's own, of the last failure.
    """

    account: AccountKey
    identifier: str
    failures: int
    rung: int
    first_failed_at: datetime
    last_failed_at: datetime
    next_at: datetime
    sentence: str

    def holds(self, *, since: datetime | None) -> bool:
        """Return whether it still speaks after an operator's act at `since` (None: there was none)."""
        return since is None or self.last_failed_at >= since


def failed_identifiers(problem: Problem, identifiers: Sequence[str]) -> dict[str, str]:
    """Return the CA's sentence by identifier for those of the order's names that are at fault.

    None for a problem that may be over soon (an outage, a limit, an expired order, our own waiting).
    """
    if problem.retry is not RetryRule.NEVER or problem.blames_issuer:
        return {}
    return {name: problem.subproblems[name] for name in identifiers if name in problem.subproblems}


def after_failure(
    before: IdentifierFailure, sentence: str, *, now: datetime, uniform: Uniform, since: datetime | None
) -> IdentifierFailure:
    """Return what is remembered after one more failure of a known name.

    since: when an operator asked for this very attempt; what failed before then starts at the foot of the ladder.
    """
    rung = before.rung + 1 if before.holds(since=since) else 1
    return replace(
        before,
        failures=before.failures + 1,
        rung=rung,
        last_failed_at=now,
        next_at=_next_at(rung, now=now, uniform=uniform),
        sentence=sentence[:LONGEST_SENTENCE],
    )


def first_failure(
    account: AccountKey, identifier: str, sentence: str, *, now: datetime, uniform: Uniform
) -> IdentifierFailure:
    """Return what is remembered of a name that fails for the first time."""
    return IdentifierFailure(
        account=account,
        identifier=identifier,
        failures=1,
        rung=1,
        first_failed_at=now,
        last_failed_at=now,
        next_at=_next_at(1, now=now, uniform=uniform),
        sentence=sentence[:LONGEST_SENTENCE],
    )


def explain_failing(failing: Sequence[IdentifierFailure], *, until: datetime) -> str:
    """Return which names are waited for and why, for people."""
    named = "; ".join(
        f"{failure.identifier}: failed {failure.failures} {'time' if failure.failures == 1 else 'times'} in a row, last"
        f" with {failure.sentence}"
        for failure in failing[:10]
    )
    more = f"; and {len(failing) - 10} more" if len(failing) > 10 else ""
    return (
        f"{named}{more}; next try at {until:%Y-%m-%d %H:%M:%S} UTC. Mend the name, or take it out of the certificate."
    )


def sentences_of(failing: Sequence[IdentifierFailure]) -> Mapping[str, str]:
    """Return the CA's last sentence by identifier."""
    return {failure.identifier: failure.sentence for failure in failing}


def _next_at(rung: int, *, now: datetime, uniform: Uniform) -> datetime:
    step = LADDER[min(rung, len(LADDER)) - 1]
    return now + step * (1.0 + uniform(0.0, LADDER_JITTER))

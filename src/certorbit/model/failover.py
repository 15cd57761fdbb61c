"""Which issuer takes over when one can't, and when the first one gets its turn back."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from certorbit.errors import RetryRule
from certorbit.model.backoff import Uniform, next_attempt_at
from certorbit.model.operation import Problem

# A CA that says 'not now' for less than this is waited for; another one would cost an order and an authorization.
WORTH_WAITING = timedelta(minutes=5)

# The issuers' names in order, by configuration, where the operator gave it an order of its own.
OrderByConfig = Mapping[str, Sequence[str]]
ALL_ALIKE: OrderByConfig = {}


def order_for(config: str, issuers: Sequence[str], by_config: OrderByConfig) -> tuple[str, ...]:
    """Return the issuers of a configuration in order of preference: its own ones, else all.

    What is named but doesn't exist (settings are checked, so only in between two versions of them) is left out.
    """
    own = tuple(name for name in by_config.get(config, ()) if name in issuers)
    return own or tuple(issuers)


def prefer(issuers: Sequence[str], chosen: str) -> tuple[str, ...]:
    """Return the issuers with the chosen one first, if it is one of them."""
    return (chosen, *(name for name in issuers if name != chosen)) if chosen in issuers else tuple(issuers)


def note_held(
    held: Mapping[str, datetime], current: str, problem: Problem, *, now: datetime, uniform: Uniform
) -> dict[str, datetime]:
    """Return the issuers that may not be asked yet, by their own word, and until when.

    held: as it was before `current` failed. What is over is forgotten.
    """
    kept = {name: until for name, until in held.items() if until > now}
    if problem.blames_issuer and problem.retry is RetryRule.AT and problem.retry_at is not None:
        kept[current] = next_attempt_at(problem, attempt=1, now=now, uniform=uniform)
    return kept


def next_issuer(
    issuers: Sequence[str], current: str, problem: Problem, *, held: Mapping[str, datetime], now: datetime
) -> str | None:
    """Return the issuer that tries at once after `current` failed; None: none does, see `next_turn`.

    Args:
        issuers: in order of preference.
        held: see `note_held`, with what `current` said.

    Another issuer is no help where the names are at fault. Each is tried once per rung of the ladder, in order, so
    that an outage of all of them ends in waiting, and the first one is asked first after it.
    """
    if not problem.blames_issuer or current not in issuers:
        return None
    if current in held and held[current] - now < WORTH_WAITING:
        return None
    later = issuers[issuers.index(current) + 1 :]
    return next((name for name in later if held.get(name, now) <= now), None)


def next_turn(
    issuers: Sequence[str], current: str, *, planned: datetime, held: Mapping[str, datetime], now: datetime
) -> tuple[str, datetime]:
    """Return who makes the next attempt, and when, after all had their turn.

    The word of one CA holds back that CA, not the certificate: a `Retry-After` of days by the second one must not keep
    us from the first one, which may be back in an hour. Whoever may be asked first is, the preferred one of several.

    Args:
        planned: for those that said nothing: by the ladder, or when the names may be tried again.
    """
    if current in held and held[current] - now < WORTH_WAITING:
        return current, held[current]
    turns = [
        (held[name] if name == current else max(planned, held[name])) if name in held else planned for name in issuers
    ]
    return issuers[turns.index(min(turns))], min(turns)


def rung(attempt: int, issuers: Sequence[str]) -> int:
    """Return which rung of the ladder an attempt (from 1) stands on: all issuers together make one try."""
    return (attempt - 1) // max(1, len(issuers)) + 1

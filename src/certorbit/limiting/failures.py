"""The memory of names that fail: one per name and account, for all certificates that have the name (docs/limits.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from certorbit.limiting.orders import spend
from certorbit.model.backoff import Uniform
from certorbit.model.ca_limits import AccountKey, CALimits, failure_subject
from certorbit.model.identifier_failure import IdentifierFailure, after_failure, first_failure
from certorbit.model.limits import RuleName
from certorbit.model.renewal import next_try_at
from certorbit.ports.store import UnitOfWork


def note_failures(
    tx: UnitOfWork,
    account: AccountKey,
    sentences: Mapping[str, str],
    *,
    since: datetime | None,
    limits: CALimits | None,
    now: datetime,
    uniform: Uniform,
) -> datetime | None:
    """Remember that names failed, count it against the CA's limits, and return when they may be tried again.

    Args:
        sentences: the CA's own by name; none: nothing happens, None is returned.
        since: when an operator asked for this attempt; what failed before then starts afresh on the ladder. None: the
            attempt was the machine's own.

    Raises:
        LostRace: another transaction came first; the store repeats this one.
    """
    if not sentences:
        return None
    before = {failure.identifier: failure for failure in tx.failures.lock(account, sorted(sentences))}
    again = [
        after_failure(failure, sentences[name], now=now, uniform=uniform, since=since)
        for name, failure in before.items()
    ]
    new = [
        first_failure(account, name, sentence, now=now, uniform=uniform)
        for name, sentence in sentences.items()
        if name not in before
    ]
    tx.failures.update(again)
    tx.failures.add(new)
    if limits is not None:
        spend(tx, account.directory, limits.failure_charges(account.name, sentences), now=now)
    return max(failure.next_at for failure in (*again, *new))


def note_success(tx: UnitOfWork, account: AccountKey, identifiers: Sequence[str], *, limits: CALimits | None) -> None:
    """Forget the names' failures at this account, as the CA does: only its hourly count stays."""
    tx.failures.delete(account, identifiers)
    if limits is not None:
        subjects = [failure_subject(account.name, identifier) for identifier in identifiers]
        tx.limits.drop(account.directory, RuleName.CONSECUTIVE_FAILURES, subjects)


def find_held_back(
    tx: UnitOfWork,
    account: AccountKey,
    identifiers: Sequence[str],
    *,
    since: datetime | None,
    not_after: datetime | None,
    now: datetime,
) -> Sequence[IdentifierFailure]:
    """Return the names that may not be tried yet; none: an order may be placed.

    Args:
        since: when an operator asked for the order; None: the machine's own idea.
        not_after: the end of the certificate that is to be renewed, which brings the next try forward when it is
            near; None: there is none.

    Returns: `next_at` of each is brought forward.
    """
    speaking = [failure for failure in tx.failures.find(account, identifiers) if failure.holds(since=since)]
    due = [replace(failure, next_at=_brought_forward(failure, not_after=not_after)) for failure in speaking]
    return [failure for failure in due if failure.next_at > now]


def next_allowed(tx: UnitOfWork, account: AccountKey, identifiers: Sequence[str], *, now: datetime) -> datetime | None:
    """Return the instant from which on all of the names may be tried; None: now."""
    held_back = find_held_back(tx, account, identifiers, since=None, not_after=None, now=now)
    return max((failure.next_at for failure in held_back), default=None)


def _brought_forward(failure: IdentifierFailure, *, not_after: datetime | None) -> datetime:
    if not_after is None:
        return failure.next_at
    return next_try_at(failure.next_at, failed_at=failure.last_failed_at, not_after=not_after)

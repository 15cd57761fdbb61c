"""Tokens for orders, taken in the transaction that writes the order's intent (docs/limits.md)."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from certorbit.model.ca_limits import CALimits, Charge, OrderKind, OrderRequest
from certorbit.model.limits import Allowed, Bucket, Demand, Wait, allow
from certorbit.ports.store import UnitOfWork


def take(
    tx: UnitOfWork, order: OrderRequest, *, limits: CALimits | None, now: datetime, has_waited: bool = False
) -> Allowed | Wait:
    """Take a token from every bucket that the order counts against, or none from any and a place in the line.

    What was decided is written when the caller's transaction commits. Two takers never get the same token: each holds
    the rows of its buckets until then, and of two that are the first to use a bucket, one loses the race and is run
    again by the store. Costs one query (a look-up per limit and name) and one write; nothing without limits.

    has_waited: the operation had to wait before and its time has come.

    Raises:
        LostRace: another transaction came first; the store repeats this one.
    """
    charges = limits.charges(order) if limits else ()
    if limits is None or not charges:
        return Allowed()
    directory = order.account.directory
    rows = tx.limits.lock(directory, _subjects(charges))
    verdict = allow(_demands(charges, rows), now=now, has_waited=has_waited)
    _save(tx, directory, verdict.buckets, rows=rows)
    return verdict if isinstance(verdict, Allowed) else _explained(verdict, order, limits)


def foresee(tx: UnitOfWork, order: OrderRequest, *, limits: CALimits | None, now: datetime) -> Allowed | Wait:
    """Return what `take` would say now, and change nothing: for previews."""
    charges = limits.charges(order) if limits else ()
    if limits is None or not charges:
        return Allowed()
    rows = tx.limits.find(order.account.directory, _subjects(charges))
    verdict = allow(_demands(charges, rows), now=now)
    return verdict if isinstance(verdict, Allowed) else _explained(verdict, order, limits)


def note_rate_limited(
    tx: UnitOfWork, order: OrderRequest, *, detail: str, until: datetime, limits: CALimits | None, now: datetime
) -> None:
    """Empty the bucket that a CA's refusal (429) means until the instant that it gave: others wait as well.

    detail: the CA's own sentence.
    """
    charge = limits.blame(detail, order) if limits else None
    if charge is None:
        return
    directory = order.account.directory
    rows = tx.limits.lock(directory, [charge.subject])
    bucket = _demands([charge], rows)[0].bucket
    _save(tx, directory, [bucket.empty_until(charge.rule, until, now=now)], rows=rows)


def give_back(
    tx: UnitOfWork,
    order: OrderRequest,
    *,
    remains: OrderKind,
    limits: CALimits | None,
    spent_at: datetime,
    now: datetime,
) -> None:
    """Give back the tokens that an order took and that what it came to does not cost.

    order: as it was counted. remains: what it is now.
    """
    if limits is None:
        return
    costs = set(limits.charges(replace(order, kind=remains)))
    charges = [charge for charge in limits.charges(order) if charge.spends and charge not in costs]
    if not charges:
        return
    directory = order.account.directory
    rows = tx.limits.lock(directory, _subjects(charges))
    rules = {(charge.rule.name, charge.subject): charge.rule for charge in charges}
    # A bucket without a row is full already.
    spent = [(row, rules[row.rule, row.subject]) for row in rows if (row.rule, row.subject) in rules]
    given = [bucket.give_back(rule, spent_at=spent_at, now=now) for bucket, rule in spent]
    tx.limits.update(directory, given)


def spend(tx: UnitOfWork, directory: str, charges: Sequence[Charge], *, now: datetime) -> None:
    """Count what happened already, whether there is a token or not."""
    if not charges:
        return
    rows = tx.limits.lock(directory, _subjects(charges))
    spent = [demand.bucket.spend(demand.rule, now=now) for demand in _demands(charges, rows)]
    _save(tx, directory, spent, rows=rows)


def _subjects(charges: Sequence[Charge]) -> list[str]:
    return list(dict.fromkeys(charge.subject for charge in charges))


def _demands(charges: Sequence[Charge], rows: Sequence[Bucket]) -> list[Demand]:
    known = {(row.rule, row.subject): row for row in rows}
    return [
        Demand(
            charge.rule,
            known.get((charge.rule.name, charge.subject)) or Bucket(charge.rule.name, charge.subject),
            spends=charge.spends,
        )
        for charge in charges
    ]


def _save(tx: UnitOfWork, directory: str, buckets: Sequence[Bucket], *, rows: Sequence[Bucket]) -> None:
    known = {(row.rule, row.subject) for row in rows}
    tx.limits.update(directory, [bucket for bucket in buckets if (bucket.rule, bucket.subject) in known])
    tx.limits.add(directory, [bucket for bucket in buckets if (bucket.rule, bucket.subject) not in known])


def _explained(wait: Wait, order: OrderRequest, limits: CALimits) -> Wait:
    message = limits.explain(wait.rule, wait.subject, until=wait.until, identifiers=order.identifiers)
    return replace(wait, message=message)

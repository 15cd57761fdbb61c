"""The audit trail in the store, and who acts (docs/decisions/0011-audit-chain.md).

Who acts is a context variable, written at the service's doors (a request's authentication, a command's start) and
read in one place, `Store.write`, which gives it to the transaction. Rules and repositories never look at it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from certorbit.model.audit import SERVICE_ACTOR, Actor, AuditEvent, AuditQuery, AuditRecord, ChainPoint, ChainState

_acting: ContextVar[Actor] = ContextVar("certorbit_acting", default=SERVICE_ACTOR)


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Let everything that is written in the block be the actor's doing."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


def set_route(route: str) -> None:
    """Note which route the request took, inside the block of `acting_as`: it is known only after the door."""
    _acting.set(replace(_acting.get(), route=route))


def current_actor() -> Actor:
    """Return who acts; the service itself where nobody else was named."""
    return _acting.get()


class AuditTrail(Protocol):
    """Append-only. A record is in the transaction of what it is about: there are both, or neither.

    A record is written without its link; `seal` gives it one, a second or so after its commit.
    """

    def add(self, event: AuditEvent, *, now: datetime) -> None:
        """Append a record of the transaction's actor."""

    def seal(self, *, limit: int) -> int:
        """Link records that are committed and not yet in the chain, in the order in which they were begun.

        One at a time in the whole cluster: another one waits for the end of this transaction.

        Returns: how many; below `limit` if there were no more.
        """

    def has_unsealed(self) -> bool: ...
    def state(self) -> ChainState: ...
    def list(self, query: AuditQuery, *, before: int | None, limit: int) -> Sequence[AuditRecord]:
        """Return records, sealed or not, the newest first. before: only those with a lower place."""

    def count(self, query: AuditQuery) -> int: ...
    def list_sealed(self, *, after: int, limit: int) -> Sequence[AuditRecord]:
        """Return records of the chain with higher numbers, in its order."""

    def expire(self, *, before: datetime, limit: int) -> tuple[int, ChainPoint]:
        """Delete the chain's oldest records up to the first one of `before` or later; at most `limit`.

        The last record of the chain always stays. Returns: how many, and the chain's anchor then.
        """

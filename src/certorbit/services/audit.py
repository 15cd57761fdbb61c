"""The audit trail: shown, walked, sealed, shortened. Records are written by whoever does what they are about."""

import base64
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import structlog

from certorbit.errors import BadInput, Broken
from certorbit.model.audit import (
    Action,
    AuditEvent,
    AuditQuery,
    AuditRecord,
    BreakKind,
    ChainBreak,
    ChainCheck,
    ChainPoint,
    ChainState,
)
from certorbit.ports.store import Store, UnitOfWork

log = structlog.get_logger(__name__)

MOST_PER_PAGE = 500
_SEALED_AT_ONCE = 500  # records in one transaction: some ten milliseconds
_EXPIRED_AT_ONCE = 1000
_HIGHEST = 2**63 - 1


def list_records(
    tx: UnitOfWork, query: AuditQuery, *, cursor: str | None, limit: int
) -> tuple[Sequence[AuditRecord], str | None, int]:
    """Return a page, newest first, the cursor of the next page (None at the end), and the total without paging.

    Raises:
        BadInput: the cursor isn't one of ours, or the limit is out of 1 to 500.
    """
    if not 1 <= limit <= MOST_PER_PAGE:
        raise BadInput(f"limit: give a number from 1 to {MOST_PER_PAGE}.", subject="limit")
    before = _read_cursor(cursor) if cursor else None
    page = tx.audit.list(query, before=before, limit=limit + 1)
    more = _make_cursor(page[limit - 1].place) if len(page) > limit else None
    return page[:limit], more, tx.audit.count(query)


async def seal_waiting(store: Store) -> int:
    """Link every committed record into the chain. Returns how many there were. Any process may do it at any time."""
    if not await store.read(lambda tx: tx.audit.has_unsealed()):
        return 0
    sealed = count = await store.write(lambda tx: tx.audit.seal(limit=_SEALED_AT_ONCE))
    while count == _SEALED_AT_ONCE:
        count = await store.write(lambda tx: tx.audit.seal(limit=_SEALED_AT_ONCE))
        sealed += count
    return sealed


async def read_state(store: Store) -> ChainState:
    """Return the chain's ends, with everything in it that is committed."""
    await seal_waiting(store)
    return await store.read(lambda tx: tx.audit.state())


async def walk(store: Store, *, after: int, until: int) -> AsyncIterator[Sequence[AuditRecord]]:
    """Yield the chain's records with numbers above `after`, up to `until`, in pages."""
    while after < until:
        limit = min(MOST_PER_PAGE, until - after)
        page = await store.read(lambda tx, after=after, limit=limit: tx.audit.list_sealed(after=after, limit=limit))  # type: ignore[misc]
        if not page:
            return
        yield page
        after = page[-1].number or until


async def verify(store: Store, *, pins: Sequence[ChainPoint] = ()) -> tuple[ChainState, ChainBreak | None]:
    """Check the whole chain of the database. Returns its ends, and where it does not hold; None: it does.

    pins: heads that were noted earlier, elsewhere: only they show that the whole chain was made anew.
    """
    state = await store.read(lambda tx: tx.audit.state())
    check = ChainCheck(state.anchor, pins=[*pins, state.head])
    try:
        await seal_waiting(store)
        async for page in walk(store, after=state.anchor.number, until=_HIGHEST):
            for record in page:
                if wrong := check.read(record.document()):
                    return state, wrong
    except Broken as error:
        return state, ChainBreak(BreakKind.CHANGED, check.point.number + 1, error.message)
    if wrong := check.end(state.head):
        return state, wrong
    now = await store.read(lambda tx: tx.audit.state())
    if now.head.number < check.point.number:
        number = now.head.number + 1
        return state, ChainBreak(BreakKind.OTHER_CHAIN, number, f"The chain's end was set back to {now.head.number}.")
    return ChainState(check.point, state.anchor), None


async def expire(store: Store, *, days: int, now: datetime) -> int:
    """Delete what is older; 0 days: nothing. What was deleted is a record itself. Returns how many."""
    if days == 0:
        return 0
    total, before = 0, now - timedelta(days=days)

    def delete(tx: UnitOfWork) -> int:
        count, anchor = tx.audit.expire(before=before, limit=_EXPIRED_AT_ONCE)
        if count:
            details = {"records": count, "number": anchor.number, "hash": anchor.hash}
            tx.audit.add(AuditEvent(action=Action.AUDIT_EXPIRED, details=details), now=now)
        return count

    while count := await store.write(delete):
        total += count
    if total:
        log.info("audit.expired", records=total)
    return total


def _make_cursor(place: int) -> str:
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    refusal = BadInput("cursor: this is not a cursor of ours; take next_cursor as it was given.", subject="cursor")
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        raise refusal from None
    if not text.isdecimal() or len(text) > 19 or int(text) > _HIGHEST:
        raise refusal
    return int(text)

"""The order ledger: what we asked of CAs, written down before we asked (engine.md)."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from certorbit.errors import Broken
from certorbit.model.ca_limits import OrderKind
from certorbit.model.operation import OperationID
from certorbit.model.order import OrderID, OrderIntent
from certorbit.storage.tables import order_intents, order_requests
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_ORDER = order_intents.c.id == sa.bindparam("intent_id")
_FIND = sa.select(order_intents).where(
    order_intents.c.operation == sa.bindparam("operation_id"),
    order_intents.c.attempt == sa.bindparam("attempt_number"),
)
_COUNT_UP = sa.update(order_intents).where(_ORDER).values(requests=order_intents.c.requests + 1)
_ADD_REQUEST = sa.insert(order_requests).from_select(
    ["order_id", "account", "identifiers_hash", "sent_at", "kind"],
    sa.select(
        order_intents.c.id,
        order_intents.c.account,
        order_intents.c.identifiers_hash,
        sa.bindparam("now", type_=order_requests.c.sent_at.type),
        sa.bindparam("kind", type_=order_requests.c.kind.type),
    ).where(_ORDER),
)
_LAST = (
    sa.select(order_requests.c.id, order_requests.c.kind, order_requests.c.sent_at)
    .where(order_requests.c.order_id == sa.bindparam("intent_id"))
    .order_by(order_requests.c.id.desc())
    .limit(1)
)
_RECOUNT = (
    sa.update(order_requests)
    .where(order_requests.c.id == sa.bindparam("request_id"))
    .values(kind=sa.bindparam("new_kind"))
)
_SET_URL = sa.update(order_intents).where(_ORDER, order_intents.c.url == "").values(url=sa.bindparam("new_url"))
_GET_URL = sa.select(order_intents.c.url).where(_ORDER)
_CARRY_OVER = sa.update(order_intents).where(_ORDER).values(attempt=sa.bindparam("new_attempt"))
_DROP_KEY = sa.update(order_intents).where(_ORDER).values(sealed_key=b"")
_TOTAL = sa.select(sa.func.count()).select_from(order_requests)
_KNOWN_URLS = sa.select(order_intents.c.url).where(order_intents.c.url.in_(sa.bindparam("urls", expanding=True)))


class SQLOrderLedger:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, operation: OperationID, attempt: int) -> OrderIntent | None:
        if not is_storable(operation):
            return None
        row = self._transaction.execute(_FIND, {"operation_id": operation, "attempt_number": attempt}).first()
        if row is None:
            return None
        return OrderIntent(
            id=row.id,
            operation=row.operation,
            attempt=row.attempt,
            issuer_name=row.issuer_name,
            account=row.account,
            identifiers=tuple(row.identifiers),
            identifiers_hash=row.identifiers_hash,
            sealed_key=row.sealed_key,
            url=row.url,
            requests=row.requests,
            created_at=row.created_at,
        )

    def add(self, intent: OrderIntent) -> None:
        """Insert it. Raises LostRace if the attempt has an intent already: another writer came first."""
        self._transaction.execute(
            sa.insert(order_intents),
            {
                "id": intent.id,
                "operation": intent.operation,
                "attempt": intent.attempt,
                "issuer_name": intent.issuer_name,
                "account": intent.account,
                "identifiers": intent.identifiers,
                "identifiers_hash": intent.identifiers_hash,
                "sealed_key": intent.sealed_key,
                "url": intent.url,
                "requests": intent.requests,
                "created_at": intent.created_at,
            },
        )

    def count_request(self, order: OrderID, *, now: datetime, kind: OrderKind = OrderKind.NEW) -> None:
        self._transaction.change_one(_COUNT_UP, {"intent_id": order}, what=f"order {order!r}")
        self._transaction.execute(_ADD_REQUEST, {"intent_id": order, "now": now, "kind": kind.value})

    def last_request(self, order: OrderID) -> tuple[OrderKind, datetime] | None:
        row = self._transaction.execute(_LAST, {"intent_id": order}).first()
        return (OrderKind(row.kind), row.sent_at) if row else None

    def recount(self, order: OrderID, kind: OrderKind) -> None:
        row = self._transaction.execute(_LAST, {"intent_id": order}).first()
        if row is not None:
            self._transaction.execute(_RECOUNT, {"request_id": row.id, "new_kind": kind.value})

    def set_url(self, order: OrderID, url: str) -> str:
        self._transaction.execute(_SET_URL, {"intent_id": order, "new_url": url})
        kept: str | None = self._transaction.execute(_GET_URL, {"intent_id": order}).scalar()
        if kept is None:
            raise Broken(f"order {order!r} is not in the store, so it can't be changed.", subject=order)
        return kept

    def carry_over(self, order: OrderID, *, attempt: int) -> None:
        """Make it a later attempt's order. Raises LostRace if that attempt has one of its own already."""
        self._transaction.change_one(_CARRY_OVER, {"intent_id": order, "new_attempt": attempt}, what=f"order {order!r}")

    def drop_key(self, order: OrderID) -> None:
        self._transaction.change_one(_DROP_KEY, {"intent_id": order}, what=f"order {order!r}")

    def total_requests(self) -> int:
        return int(self._transaction.execute(_TOTAL).scalar_one())

    def known_urls(self, urls: Sequence[str]) -> set[str]:
        # "" means 'no URL yet' in our own rows and is nobody's URL.
        wanted = [url for url in urls if url and is_storable(url)]
        if not wanted:
            return set()
        return set(self._transaction.execute(_KNOWN_URLS, {"urls": wanted}).scalars())

"""The inventory: listeners as they were seen last."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.balancer import Endpoint, Listener, ListenerKey
from certorbit.storage.listener_keys import can_exist, columns_of, is_listener, key_from, parameters_of, values_of
from certorbit.storage.tables_deployment import listeners
from certorbit.storage.transaction import Transaction
from certorbit.storage.upserts import Upsert

_LIST = sa.select(listeners).order_by(*columns_of(listeners))
_FIND = sa.select(listeners).where(*is_listener(listeners))
_PUT = Upsert(listeners)
_INSERT = sa.insert(listeners)
_FORGET = sa.delete(listeners).where(listeners.c.target == sa.bindparam("named"))
_FORGET_OTHERS = sa.delete(listeners).where(listeners.c.target.not_in(sa.bindparam("known", expanding=True)))


class SQLListeners:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list(self) -> Sequence[Listener]:
        return [_listener(row) for row in self._transaction.execute(_LIST)]

    def find(self, key: ListenerKey) -> Listener | None:
        if not can_exist(key):
            return None
        row = self._transaction.execute(_FIND, parameters_of(key)).first()
        return _listener(row) if row else None

    def put(self, listener: Listener, *, now: datetime) -> None:
        _PUT.run(self._transaction, _values(listener, now=now))

    def replace(self, target: str, listeners: Sequence[Listener], *, now: datetime) -> None:
        self._transaction.execute(_FORGET, {"named": target})
        # In the order of their keys, so that two writers of the same ones can't wait for each other.
        rows = [_values(listener, now=now) for _, listener in sorted({each.key: each for each in listeners}.items())]
        if rows:
            self._transaction.execute(_INSERT, rows)

    def forget_targets(self, besides: Sequence[str]) -> None:
        self._transaction.execute(_FORGET_OTHERS, {"known": list(besides)})


def _values(listener: Listener, *, now: datetime) -> Mapping[str, Any]:
    return {
        **values_of(listener.key),
        "provider": listener.provider,
        "kind": listener.kind,
        "dns_name": listener.dns_name,
        "max_certificates": listener.max_certificates,
        "default_handle": listener.default,
        "certificates": listener.certificates,
        "endpoints": [[endpoint.host, endpoint.port] for endpoint in listener.endpoints],
        "seen_at": now,
    }


def _listener(row: sa.Row[Any]) -> Listener:
    return Listener(
        key=key_from(row),
        provider=row.provider,
        kind=row.kind,
        dns_name=row.dns_name,
        max_certificates=row.max_certificates,
        default=row.default_handle,
        certificates=tuple(row.certificates),
        endpoints=tuple(Endpoint(host, port) for host, port in row.endpoints),
    )

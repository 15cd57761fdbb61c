"""The inventory: listeners as they were seen last."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.balancer import Endpoint, Listener, ListenerKey
from certorbit.model.operation import Problem, problem_from_json, problem_to_json
from certorbit.model.target_look import TargetLook
from certorbit.storage.listener_keys import can_exist, columns_of, is_listener, key_from, parameters_of, values_of
from certorbit.storage.tables_deployment import listeners, target_looks
from certorbit.storage.transaction import Transaction
from certorbit.storage.upserts import Insert, Upsert

_LIST = sa.select(listeners).order_by(*columns_of(listeners))
_FIND = sa.select(listeners).where(*is_listener(listeners))
_PUT = Upsert(listeners)
_INSERT = sa.insert(listeners)
_FORGET = sa.delete(listeners).where(listeners.c.target == sa.bindparam("named"))
_FORGET_OTHERS = sa.delete(listeners).where(listeners.c.target.not_in(sa.bindparam("known", expanding=True)))
_LOOKS = sa.select(target_looks)
_FORGET_OTHER_LOOKS = sa.delete(target_looks).where(target_looks.c.target.not_in(sa.bindparam("known", expanding=True)))
_SEE = Upsert(target_looks)


def _keep_beginning(insert: Insert) -> tuple[Mapping[str, Any], None]:
    """Overwrite the problem; what was unseen already is so since the same instant as before."""
    known = target_looks.c
    since = sa.func.coalesce(known.unseen_since, known.seen_at, insert.excluded.unseen_since)
    return {"unseen_since": since, "problem": insert.excluded.problem}, None


_MISS = Upsert(target_looks, change=_keep_beginning)


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
        _SEE.run(self._transaction, {"target": target, "seen_at": now, "unseen_since": None, "problem": None})

    def miss(self, target: str, problem: Problem, *, now: datetime) -> None:
        look = {"target": target, "seen_at": None, "unseen_since": now, "problem": problem_to_json(problem)}
        _MISS.run(self._transaction, look)

    def looks(self) -> Mapping[str, TargetLook]:
        return {
            row.target: TargetLook(
                seen_at=row.seen_at,
                unseen_since=row.unseen_since,
                problem=None if row.problem is None else problem_from_json(row.problem),
            )
            for row in self._transaction.execute(_LOOKS)
        }

    def forget_targets(self, besides: Sequence[str]) -> None:
        for forget in (_FORGET_OTHERS, _FORGET_OTHER_LOOKS):
            self._transaction.execute(forget, {"known": list(besides)})


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

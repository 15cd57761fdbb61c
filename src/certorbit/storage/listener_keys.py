"""Listener keys as columns: the five of `tables_deployment.LISTENER_KEY`, in every table that names a listener."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from certorbit.model.balancer import ListenerKey
from certorbit.storage.tables_deployment import LISTENER_KEY
from certorbit.storage.types import is_storable

_HIGHEST_PORT = 65535


def columns_of(table: sa.Table) -> Sequence[sa.Column[Any]]:
    """Return the key's columns, in the order that lists have."""
    return [table.c[name] for name in LISTENER_KEY]


def is_listener(table: sa.Table) -> Sequence[sa.ColumnElement[bool]]:
    """Return the conditions that `parameters_of` fills in."""
    return [column == sa.bindparam(f"at_{column.name}", type_=column.type) for column in columns_of(table)]


def parameters_of(key: ListenerKey) -> dict[str, Any]:
    return {f"at_{name}": value for name, value in values_of(key).items()}


def values_of(key: ListenerKey) -> dict[str, Any]:
    """Return column → value, for an insert."""
    return {name: getattr(key, name) for name in LISTENER_KEY}


def key_from(row: sa.Row[Any]) -> ListenerKey:
    return ListenerKey(
        target=row.target, region=row.region, load_balancer=row.load_balancer, listener=row.listener, port=row.port
    )


def can_exist(key: ListenerKey) -> bool:
    """Whether the tables can hold the key: a look-up by another finds nothing."""
    texts = (key.target, key.region, key.load_balancer, key.listener)
    return all(map(is_storable, texts)) and 0 <= key.port <= _HIGHEST_PORT

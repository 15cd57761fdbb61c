"""Rows as JSON lines that mean the same from SQLite and from PostgreSQL, and back into columns."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from certorbit.errors import Broken


def encode_row(values: Sequence[Any]) -> str:
    return json.dumps([_encode(value) for value in values], separators=(",", ":"))


def decode_row(values: Sequence[Any], columns: Sequence[sa.Column[Any]]) -> dict[str, Any]:
    """Return the row as its columns take it. Raises Broken: it doesn't fit."""
    if len(values) != len(columns):
        raise Broken(f"A row of the table {columns[0].table.name} has {len(values)} values, not {len(columns)}.")
    return {column.name: _decode(value, column) for column, value in zip(columns, values, strict=True)}


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        # As SQLite has it (types.UTCDateTime), which is what PostgreSQL's instants become there.
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, dict | list):
        return {"json": value}
    raise Broken(f"A value of the type {type(value).__name__} can't be put into a backup.")


def _decode(value: Any, column: sa.Column[Any]) -> Any:
    if isinstance(value, dict):
        if "bytes" in value:
            return base64.b64decode(value["bytes"])
        return value["json"] if isinstance(column.type, sa.JSON) else json.dumps(value["json"])
    if isinstance(value, str) and isinstance(column.type, sa.DateTime):
        return datetime.fromisoformat(value)
    if isinstance(value, str) and isinstance(column.type, sa.JSON):
        return json.loads(value)
    if isinstance(value, int) and isinstance(column.type, sa.Boolean):
        return bool(value)
    return value

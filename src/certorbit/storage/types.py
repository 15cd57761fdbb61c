"""Column types that read back the same from SQLite and PostgreSQL."""

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from certorbit.errors import BadInput, Broken


def is_storable(text: str) -> bool:
    """Whether a text column can hold it: PostgreSQL takes no NUL, and neither database a lone surrogate.

    A look-up by such a text finds nothing; repositories ask here first, so that a hostile id is simply unknown.
    """
    if text.isascii():
        return "\x00" not in text
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


class StoredText(TypeDecorator[str]):
    """Text in code-point order on both databases (PostgreSQL: collation "C"), so that pages and lists agree."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # Not by `dialect.type_descriptor`: the driver's own string type would make the column a VARCHAR.
        return sa.Text(collation="C") if dialect.name == "postgresql" else sa.Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - the library's
        if value is not None and not is_storable(value):
            raise BadInput(
                f"The text {value[:40]!r} holds a NUL character or half of a surrogate pair, which no database"
                " takes. Leave the character out."
            )
        return value


class UTCDateTime(TypeDecorator[datetime]):
    """An aware instant in UTC with microseconds.

    PostgreSQL: `timestamptz`. SQLite: ISO 8601 text of fixed width, which sorts by time, which people can read, and
    which turns into an instant four times as fast as an integer does (0.12 against 0.55 µs).
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return postgresql.TIMESTAMP(timezone=True) if dialect.name == "postgresql" else sa.Text()

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise Broken(f"The instant {value} has no time zone; only aware instants are stored.")
        in_utc = value.astimezone(UTC)
        return in_utc if dialect.name == "postgresql" else in_utc.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the library's
        if value is None:
            return None
        instant: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(UTC)
        return instant


class JSONText(TypeDecorator[Any]):
    """A list or object as JSON text in ASCII, so that any character (a NUL in a CA's sentence) can be in it."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - the library's
        return None if value is None else json.dumps(value, ensure_ascii=True, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - the library's
        if value == "[]":  # most lists are empty: spares half of the decoding of a list of entries
            return []
        return None if value is None else json.loads(value)

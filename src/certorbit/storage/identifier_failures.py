"""Names that fail at an account, until they succeed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.ca_limits import AccountKey
from certorbit.model.identifier_failure import IdentifierFailure
from certorbit.storage.tables import identifier_failures
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_COLUMNS = identifier_failures.c
_KEY = (_COLUMNS.identifier, _COLUMNS.directory, _COLUMNS.account)
_NAMED = _COLUMNS.identifier.in_(sa.bindparam("identifiers", expanding=True))
_AT = (_COLUMNS.directory == sa.bindparam("at"), _COLUMNS.account == sa.bindparam("named"))
_FIND = sa.select(identifier_failures).where(_NAMED, *_AT).order_by(*_KEY)
_LOCK = _FIND.with_for_update()  # in the order of the key: see storage/limits.py
_CHANGEABLE = ("failures", "rung", "last_failed_at", "next_at", "sentence")
_UPDATE = (
    sa.update(identifier_failures)
    .where(_COLUMNS.identifier == sa.bindparam("which"), *_AT)
    .values({name: sa.bindparam(f"new_{name}") for name in _CHANGEABLE})
)
_DELETE = sa.delete(identifier_failures).where(_NAMED, *_AT)
_FORGET = sa.delete(identifier_failures).where(_NAMED)
_DELETE_STALE = sa.delete(identifier_failures).where(
    _COLUMNS.next_at < sa.bindparam("before", type_=_COLUMNS.next_at.type)
)


class SQLIdentifierFailures:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, account: AccountKey, identifiers: Sequence[str]) -> Sequence[IdentifierFailure]:
        return self._read(_FIND, account, identifiers)

    def lock(self, account: AccountKey, identifiers: Sequence[str]) -> Sequence[IdentifierFailure]:
        return self._read(_LOCK, account, identifiers)

    def list(self, *, after: tuple[str, AccountKey] | None = None, limit: int = 100) -> Sequence[IdentifierFailure]:
        statement = sa.select(identifier_failures).order_by(*_KEY).limit(limit)
        if after is not None:
            key = (after[0], after[1].directory, after[1].name)
            if not all(map(is_storable, key)):
                return []
            place = sa.tuple_(*(sa.literal(text, _COLUMNS.identifier.type) for text in key))
            statement = statement.where(sa.tuple_(*_KEY) > place)
        return [_failure(row) for row in self._transaction.execute(statement)]

    def add(self, failures: Sequence[IdentifierFailure]) -> None:
        """Insert them. Raises LostRace if another writer did so meanwhile; the repeated transaction finds them."""
        if failures:
            ordered = sorted(failures, key=lambda failure: failure.identifier)
            self._transaction.execute(sa.insert(identifier_failures), [_values(failure) for failure in ordered])

    def update(self, failures: Sequence[IdentifierFailure]) -> None:
        if not failures:
            return
        rows = []
        for failure in failures:
            values = _values(failure)
            rows.append(
                {"which": failure.identifier, "at": failure.account.directory, "named": failure.account.name}
                | {f"new_{name}": values[name] for name in _CHANGEABLE}
            )
        self._transaction.execute(_UPDATE, rows)

    def delete(self, account: AccountKey, identifiers: Sequence[str]) -> None:
        self._transaction.execute(
            _DELETE, {"at": account.directory, "named": account.name, "identifiers": list(identifiers)}
        )

    def forget(self, identifiers: Sequence[str]) -> None:
        self._transaction.execute(_FORGET, {"identifiers": list(identifiers)})

    def delete_stale(self, *, before: datetime) -> int:
        return self._transaction.execute(_DELETE_STALE, {"before": before}).rowcount

    def _read(
        self, statement: sa.Select[Any], account: AccountKey, identifiers: Sequence[str]
    ) -> Sequence[IdentifierFailure]:
        wanted = [identifier for identifier in identifiers if is_storable(identifier)]
        if not wanted or not (is_storable(account.directory) and is_storable(account.name)):
            return []
        parameters = {"at": account.directory, "named": account.name, "identifiers": wanted}
        return [_failure(row) for row in self._transaction.execute(statement, parameters)]


def _values(failure: IdentifierFailure) -> Mapping[str, Any]:
    return {
        "identifier": failure.identifier,
        "directory": failure.account.directory,
        "account": failure.account.name,
        "failures": failure.failures,
        "rung": failure.rung,
        "first_failed_at": failure.first_failed_at,
        "last_failed_at": failure.last_failed_at,
        "next_at": failure.next_at,
        "sentence": failure.sentence,
    }


def _failure(row: sa.Row[Any]) -> IdentifierFailure:
    return IdentifierFailure(
        account=AccountKey(row.directory, row.account),
        identifier=row.identifier,
        failures=row.failures,
        rung=row.rung,
        first_failed_at=row.first_failed_at,
        last_failed_at=row.last_failed_at,
        next_at=row.next_at,
        sentence=row.sentence,
    )

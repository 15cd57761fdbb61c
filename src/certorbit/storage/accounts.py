"""Accounts at CAs."""

import sqlalchemy as sa

from certorbit.model.order import Account
from certorbit.storage.tables import acme_accounts
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_NAMED = (
    acme_accounts.c.directory == sa.bindparam("at"),
    acme_accounts.c.name == sa.bindparam("named"),
)
_FIND = sa.select(acme_accounts).where(*_NAMED)
_SET_URL = sa.update(acme_accounts).where(*_NAMED).values(url=sa.bindparam("new_url"))


class SQLAccounts:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self, directory: str, name: str) -> Account | None:
        if not (is_storable(directory) and is_storable(name)):
            return None
        row = self._transaction.execute(_FIND, {"at": directory, "named": name}).first()
        if row is None:
            return None
        return Account(
            directory=row.directory,
            name=row.name,
            sealed_key=row.sealed_key,
            url=row.url,
            contact=tuple(row.contact),
            created_at=row.created_at,
        )

    def add(self, account: Account) -> None:
        self._transaction.execute(
            sa.insert(acme_accounts),
            {
                "directory": account.directory,
                "name": account.name,
                "sealed_key": account.sealed_key,
                "url": account.url,
                "contact": account.contact,
                "created_at": account.created_at,
            },
        )

    def set_url(self, directory: str, name: str, *, url: str) -> None:
        self._transaction.change_one(
            _SET_URL,
            {"at": directory, "named": name, "new_url": url},
            what=f"account {name!r} at {directory}",
        )

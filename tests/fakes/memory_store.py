"""Accounts and challenges in memory, for tests of the ACME client; the other repositories are not there at all."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar, cast

from certorbit.errors import LostRace, Unreachable
from certorbit.model.order import Account, Challenge
from certorbit.ports.store import UnitOfWork

T = TypeVar("T")


class MemoryAccounts:
    def __init__(self, rows: dict[tuple[str, str], Account]) -> None:
        self._rows = rows

    def find(self, directory: str, name: str) -> Account | None:
        return self._rows.get((directory, name))

    def add(self, account: Account) -> None:
        if (account.directory, account.name) in self._rows:
            raise LostRace("the account is there already")
        self._rows[account.directory, account.name] = account

    def set_url(self, directory: str, name: str, *, url: str) -> None:
        self._rows[directory, name] = replace(self._rows[directory, name], url=url)


class MemoryChallenges:
    def __init__(self, rows: dict[str, Challenge]) -> None:
        self._rows = rows

    def put_all(self, challenges: Sequence[Challenge]) -> None:
        self._rows.update((challenge.token, challenge) for challenge in challenges)

    def find(self, token: str) -> Challenge | None:
        return self._rows.get(token)

    def delete_all(self, tokens: Sequence[str]) -> None:
        for token in tokens:
            self._rows.pop(token, None)

    def delete_expired(self, *, now: datetime) -> int:
        expired = [token for token, challenge in self._rows.items() if challenge.expires_at <= now]
        self.delete_all(expired)
        return len(expired)


class _Transaction:
    """The two repositories over copies of the rows: what raises leaves no trace."""

    def __init__(self, accounts: dict[tuple[str, str], Account], challenges: dict[str, Challenge]) -> None:
        self.account_rows = dict(accounts)
        self.challenge_rows = dict(challenges)
        self.accounts = MemoryAccounts(self.account_rows)
        self.challenges = MemoryChallenges(self.challenge_rows)


class MemoryStore:
    """`ports.store.Store` as far as the ACME client goes.

    races: how many of the next writes are lost to somebody else once they ran (the store then repeats them).
    before_repeat: what the somebody else did.
    fail_deletes: the database is gone when a challenge is deleted.
    """

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, str], Account] = {}
        self.challenges: dict[str, Challenge] = {}
        self.races = 0
        self.before_repeat: Callable[[], None] = lambda: None
        self.fail_deletes = False

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        await asyncio.sleep(0)
        return work(cast("UnitOfWork", _Transaction(self.accounts, self.challenges)))

    async def write(self, work: Callable[[UnitOfWork], T]) -> T:
        await asyncio.sleep(0)
        while True:
            transaction = _Transaction(self.accounts, self.challenges)
            result = work(cast("UnitOfWork", transaction))
            if self.fail_deletes and len(transaction.challenge_rows) < len(self.challenges):
                raise Unreachable("the database is gone", subject="database", phase="database")
            if self.races > 0:
                self.races -= 1
                self.before_repeat()
                continue
            self.accounts, self.challenges = transaction.account_rows, transaction.challenge_rows
            return result

"""One running transaction, as the repositories see it."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from certorbit.errors import Broken, CertorbitError
from certorbit.model.audit import SERVICE_ACTOR, Actor
from certorbit.storage.failures import translate

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class Transaction:
    """Executes statements and translates what they raise.

    Args:
        database: its name for people.
        is_writing: whether it may write; tells a read that wrote (a bug) from a standby that takes no writes.
        actor: whose doing it is, for the audit trail.
    """

    __slots__ = ("_connection", "_database", "_is_writing", "actor")

    def __init__(
        self, connection: sa.Connection, *, database: str, is_writing: bool, actor: Actor = SERVICE_ACTOR
    ) -> None:
        self._connection = connection
        self._database = database
        self._is_writing = is_writing
        self.actor = actor

    def acting(self, actor: Actor) -> "Transaction":
        """Return the same transaction as the actor's doing."""
        return Transaction(self._connection, database=self._database, is_writing=self._is_writing, actor=actor)

    @property
    def connection(self) -> sa.Connection:
        """The connection itself, for what must be in this very transaction (the engine's enqueue)."""
        return self._connection

    def translate(self, error: sa.exc.SQLAlchemyError | sqlite3.Error) -> CertorbitError:
        """Return our error for theirs."""
        return translate(error, database=self._database, is_writing=self._is_writing)

    def execute(self, statement: sa.Executable, parameters: Parameters | None = None) -> sa.CursorResult[Any]:
        """Run one statement.

        Raises:
            LostRace, Unreachable, BadInput, Broken: see `failures.translate`.
        """
        try:
            return self._connection.execute(statement, parameters)
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            raise self.translate(error) from error

    def change_one(self, statement: sa.Executable, parameters: Parameters, *, what: str) -> None:
        """Run an update that must meet exactly one row.

        Raises:
            Broken: there is no such row.
        """
        if self.execute(statement, parameters).rowcount != 1:
            raise Broken(f"{what} is not in the store, so it can't be changed.", subject=what)

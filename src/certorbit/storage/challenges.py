"""HTTP-01 answers that any node can give."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from certorbit.model.order import Challenge
from certorbit.storage.tables import http_challenges
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Upsert

_PUT = Upsert(http_challenges)
_FIND = sa.select(http_challenges).where(http_challenges.c.token == sa.bindparam("wanted"))
_DELETE = sa.delete(http_challenges).where(http_challenges.c.token.in_(sa.bindparam("tokens", expanding=True)))
_DELETE_EXPIRED = sa.delete(http_challenges).where(http_challenges.c.expires_at <= sa.bindparam("now"))


class SQLChallenges:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def put_all(self, challenges: Sequence[Challenge]) -> None:
        # In the order of their tokens, so that two writers of the same ones can't wait for each other.
        rows = [
            {
                "token": challenge.token,
                "key_authorization": challenge.key_authorization,
                "expires_at": challenge.expires_at,
            }
            for challenge in sorted(challenges, key=lambda challenge: challenge.token)
        ]
        if rows:
            _PUT.run(self._transaction, rows)

    def find(self, token: str) -> Challenge | None:
        if not is_storable(token):
            return None
        row = self._transaction.execute(_FIND, {"wanted": token}).first()
        if row is None:
            return None
        return Challenge(token=row.token, key_authorization=row.key_authorization, expires_at=row.expires_at)

    def delete_all(self, tokens: Sequence[str]) -> None:
        wanted = [token for token in tokens if is_storable(token)]
        if wanted:
            self._transaction.execute(_DELETE, {"tokens": wanted})

    def delete_expired(self, *, now: datetime) -> int:
        return self._transaction.execute(_DELETE_EXPIRED, {"now": now}).rowcount

"""Sessions of people: digests of cookies, never the cookies."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.access import Role
from certorbit.model.entry import ConfigID
from certorbit.model.session import Session, SessionID
from certorbit.storage.tables_sessions import sessions
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

_C = sessions.c
_BY_DIGEST = _C.digest == sa.bindparam("wanted")
_FIND = sa.select(sessions).where(_BY_DIGEST)
_FIND_BY_ID = sa.select(sessions).where(_C.id == sa.bindparam("wanted"))
_NOT_OVER = _C.expires_at > sa.bindparam("now", type_=_C.expires_at.type)
_LIST = sa.select(sessions).where(_NOT_OVER).order_by(_C.created_at.desc(), _C.id)
_LIST_OF_SUBJECT = _LIST.where(_C.subject == sa.bindparam("of"))
_HAS_STATE = sa.select(_C.digest).where(_C.state_digest == sa.bindparam("state"))
_SEEN_AT = sa.bindparam("seen_at", type_=_C.last_seen_at.type)
_NOTE_SEEN = sa.update(sessions).where(_BY_DIGEST, _C.last_seen_at < _SEEN_AT).values(last_seen_at=_SEEN_AT)
_DELETE = sa.delete(sessions).where(_BY_DIGEST)
_DELETE_EXPIRED = sa.delete(sessions).where(_C.expires_at <= sa.bindparam("now", type_=_C.expires_at.type))


class SQLSessions:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, session: Session) -> None:
        values = {field.name: getattr(session, field.name) for field in fields(Session)}
        self._transaction.execute(sa.insert(sessions), {**values, "role": session.role.value})

    def find(self, digest: str) -> Session | None:
        row = self._transaction.execute(_FIND, {"wanted": digest}).first()
        return None if row is None else _session(row)

    def find_by_id(self, session: SessionID) -> Session | None:
        row = self._transaction.execute(_FIND_BY_ID, {"wanted": session}).first()
        return None if row is None else _session(row)

    def list(self, *, subject: str | None, now: datetime) -> Sequence[Session]:
        if subject is None:
            return [_session(row) for row in self._transaction.execute(_LIST, {"now": now})]
        if not is_storable(subject):
            return []
        return [_session(row) for row in self._transaction.execute(_LIST_OF_SUBJECT, {"now": now, "of": subject})]

    def has_state(self, state_digest: str) -> bool:
        return self._transaction.execute(_HAS_STATE, {"state": state_digest}).first() is not None

    def note_seen(self, digest: str, *, now: datetime) -> None:
        self._transaction.execute(_NOTE_SEEN, {"wanted": digest, "seen_at": now})

    def delete(self, digest: str) -> bool:
        return self._transaction.execute(_DELETE, {"wanted": digest}).rowcount == 1

    def delete_expired(self, *, now: datetime) -> int:
        return self._transaction.execute(_DELETE_EXPIRED, {"now": now}).rowcount


def _session(row: sa.Row[Any]) -> Session:
    values: dict[str, Any] = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    configurations = tuple(map(ConfigID, values["configurations"]))
    return Session(**{**values, "role": Role(values["role"]), "configurations": configurations})

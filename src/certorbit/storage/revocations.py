"""Revocation lists, and what is known of the revocation of versions."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.crl import HOLD, Verdict, VerdictState
from certorbit.model.entry import ConfigID, VersionID
from certorbit.model.standing import RevocationStanding
from certorbit.ports.crl_store import DueVersion, StoredCRL
from certorbit.storage.entries import JOINED, entry_from
from certorbit.storage.tables import entries, versions
from certorbit.storage.tables_revocation import crls, verdicts
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Upsert

_COLUMNS = (
    verdicts.c.state,
    verdicts.c.reason,
    verdicts.c.revoked_at,
    verdicts.c.checked_at,
    verdicts.c.valid_until,
    verdicts.c.sources,
    verdicts.c.problems,
)
_WIDTH = len(_COLUMNS)
_BY_VERSION = verdicts.c.version_id == sa.bindparam("wanted")
_WITH_ENTRY = verdicts.join(versions, versions.c.id == verdicts.c.version_id).outerjoin(
    entries, sa.and_(entries.c.uid == versions.c.entry_uid, entries.c.current_version == versions.c.id)
)
_DUE = (
    sa.select(verdicts.c.version_id, *_COLUMNS, *JOINED.selected_columns)
    .select_from(_WITH_ENTRY)
    .where(verdicts.c.look_at <= sa.bindparam("now", type_=verdicts.c.look_at.type))
    .order_by(verdicts.c.look_at)
    .limit(sa.bindparam("most"))
)
_FIND = sa.select(*_COLUMNS).where(_BY_VERSION)
_REVOKED = (
    sa.select(verdicts.c.version_id, *_COLUMNS)
    .select_from(_WITH_ENTRY)
    # Not a parameter: SQLite takes the partial index only if it sees the value.
    .where(verdicts.c.state == sa.literal_column("'revoked'"), entries.c.config == sa.bindparam("config"))
)
# `Verdict.at`, in SQL: what rests on a list that has ended is unknown, but for a revocation that can't be taken back.
_HOLDS = sa.or_(
    verdicts.c.valid_until.is_(None), verdicts.c.valid_until > sa.bindparam("now", type_=verdicts.c.valid_until.type)
)
_STANDING = sa.case(
    (sa.and_(verdicts.c.state == "revoked", sa.or_(_HOLDS, verdicts.c.reason != HOLD)), "revoked"),
    (sa.and_(verdicts.c.state == "good", _HOLDS), "good"),
    (verdicts.c.look_at.is_(None), "unchecked"),
    else_="unknown",
).label("standing")
_COUNT_STANDINGS = (
    sa.select(_STANDING, sa.func.count().label("number"))
    .select_from(verdicts.join(entries, entries.c.current_version == verdicts.c.version_id))
    .group_by(sa.literal_column("standing"))  # by its name: PostgreSQL takes two placeholders of one value for two
)
_PUT = (
    sa.update(verdicts)
    .where(_BY_VERSION)
    .values({column.name: sa.bindparam(f"new_{column.name}") for column in (*_COLUMNS, verdicts.c.look_at)})
)
_LOOK_AT = sa.update(verdicts).where(_BY_VERSION).values(look_at=sa.bindparam("new_look_at"))
_BY_URL = sa.and_(crls.c.url == sa.bindparam("wanted_url"), crls.c.issuer_id == sa.bindparam("wanted_issuer"))
_CRL = tuple(column for column in crls.c if column.name != "der")
_FIND_CRL = sa.select(*_CRL).where(_BY_URL)
_LOAD_CRL = sa.select(crls.c.der).where(_BY_URL)
_DELETE_CRLS = sa.delete(crls).where(crls.c.next_fetch_at < sa.bindparam("before", type_=crls.c.next_fetch_at.type))
_PUT_CRL = Upsert(crls)
_PUT_CRL_WITHOUT_CONTENT = Upsert(
    crls,
    change=lambda insert: (
        {column.name: insert.excluded[column.name] for column in _CRL if not column.primary_key},
        None,
    ),
)


class SQLRevocations:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list_due(self, *, now: datetime, limit: int) -> Sequence[DueVersion]:
        rows = [tuple(row) for row in self._transaction.execute(_DUE, {"now": now, "most": limit})]
        return [
            DueVersion(
                version=version,
                entry=entry_from(columns[_WIDTH:]) if columns[_WIDTH] is not None else None,
                verdict=_verdict(columns[:_WIDTH]),
            )
            for version, *columns in rows
        ]

    def find_verdict(self, version: VersionID) -> Verdict | None:
        if not is_storable(version):
            return None
        row = self._transaction.execute(_FIND, {"wanted": version}).first()
        return _verdict(tuple(row)) if row else None

    def put_verdict(self, version: VersionID, verdict: Verdict, *, look_at: datetime | None) -> None:
        values = {
            "new_state": verdict.state.value,
            "new_reason": verdict.reason,
            "new_revoked_at": verdict.revoked_at,
            "new_checked_at": verdict.checked_at,
            "new_valid_until": verdict.valid_until,
            "new_sources": verdict.sources,
            "new_problems": verdict.problems,
            "new_look_at": look_at,
        }
        self._transaction.execute(_PUT, {"wanted": version, **values})

    def look_at(self, version: VersionID, instant: datetime) -> None:
        self._transaction.execute(_LOOK_AT, {"wanted": version, "new_look_at": instant})

    def list_revoked(self, config: ConfigID, *, now: datetime) -> frozenset[VersionID]:
        if not is_storable(config):
            return frozenset()
        rows = [tuple(row) for row in self._transaction.execute(_REVOKED, {"config": config})]
        return frozenset(version for version, *columns in rows if _verdict(columns).at(now).is_revoked)

    def count_standings(self, *, now: datetime) -> Mapping[RevocationStanding, int]:
        rows = self._transaction.execute(_COUNT_STANDINGS, {"now": now})
        return {RevocationStanding(row.standing): row.number for row in rows}

    def find_crl(self, url: str, issuer_id: str) -> StoredCRL | None:
        if not is_storable(url):
            return None
        row = self._transaction.execute(_FIND_CRL, {"wanted_url": url, "wanted_issuer": issuer_id}).first()
        if row is None:
            return None
        values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        return StoredCRL(**{**values, "number": None if values["number"] is None else int(values["number"])})

    def load_crl(self, url: str, issuer_id: str) -> bytes | None:
        if not is_storable(url):
            return None
        found: bytes | None = self._transaction.execute(
            _LOAD_CRL, {"wanted_url": url, "wanted_issuer": issuer_id}
        ).scalar_one_or_none()
        return found

    def put_crl(self, crl: StoredCRL, *, der: bytes | None = None) -> None:
        put = _PUT_CRL_WITHOUT_CONTENT if der is None else _PUT_CRL
        put.run(self._transaction, {**_crl_values(crl), "der": der})

    def delete_crls_before(self, instant: datetime) -> int:
        return self._transaction.execute(_DELETE_CRLS, {"before": instant}).rowcount


def _verdict(columns: Sequence[Any]) -> Verdict:
    state, reason, revoked_at, checked_at, valid_until, sources, problems = columns
    return Verdict(
        state=VerdictState(state),
        reason=reason,
        revoked_at=revoked_at,
        checked_at=checked_at,
        valid_until=valid_until,
        sources=tuple(sources),
        problems=tuple(problems),
    )


def _crl_values(crl: StoredCRL) -> dict[str, Any]:
    values: dict[str, Any] = {field.name: getattr(crl, field.name) for field in fields(crl)}
    return {**values, "number": None if crl.number is None else str(crl.number)}

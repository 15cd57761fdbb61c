"""The built-in CA of a deployment and what it issued."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from certorbit.ports.authority_store import Authority, RevokedSerial
from certorbit.storage.tables import authorities, authority_counters, authority_issued
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Upsert

_NAME = "built-in"
_CRL_NUMBER = "crl-number"
_FIND = sa.select(authorities).where(authorities.c.name == _NAME)
_FIND_ISSUED = sa.select(authority_issued.c.chain_pem).where(authority_issued.c.order_url == sa.bindparam("wanted"))
# Revoked once is revoked for ever, with its first date and reason.
_REVOKE = (
    sa.update(authority_issued)
    .where(authority_issued.c.serial == sa.bindparam("wanted"))
    .values(
        revoked_at=sa.func.coalesce(
            authority_issued.c.revoked_at, sa.bindparam("now", type_=authority_issued.c.revoked_at.type)
        ),
        revocation_reason=sa.func.coalesce(authority_issued.c.revocation_reason, sa.bindparam("new_reason")),
    )
)
_LIST_REVOKED = (
    sa.select(authority_issued.c.serial, authority_issued.c.revoked_at, authority_issued.c.revocation_reason)
    .where(authority_issued.c.revoked_at.is_not(None))
    .order_by(authority_issued.c.revoked_at, authority_issued.c.serial)
)
_COUNT_UP = Upsert(authority_counters, change=lambda _: ({"value": authority_counters.c.value + 1}, None))
_CRL_NUMBER_NOW = sa.select(authority_counters.c.value).where(authority_counters.c.name == _CRL_NUMBER)


class SQLAuthorities:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def find(self) -> Authority | None:
        row = self._transaction.execute(_FIND).first()
        if row is None:
            return None
        return Authority(
            root_pem=row.root_pem,
            issuing_pem=row.issuing_pem,
            sealed_root_key=row.sealed_root_key,
            sealed_issuing_key=row.sealed_issuing_key,
            created_at=row.created_at,
        )

    def add(self, authority: Authority) -> None:
        self._transaction.execute(
            sa.insert(authorities),
            {
                "name": _NAME,
                "root_pem": authority.root_pem,
                "issuing_pem": authority.issuing_pem,
                "sealed_root_key": authority.sealed_root_key,
                "sealed_issuing_key": authority.sealed_issuing_key,
                "created_at": authority.created_at,
            },
        )

    def find_issued(self, order_url: str) -> str | None:
        if not is_storable(order_url):
            return None
        return self._transaction.execute(_FIND_ISSUED, {"wanted": order_url}).scalar_one_or_none()

    def add_issued(self, order_url: str, *, serial: str, chain_pem: str, not_after: datetime) -> None:
        self._transaction.execute(
            sa.insert(authority_issued),
            {"order_url": order_url, "serial": serial, "chain_pem": chain_pem, "not_after": not_after},
        )

    def revoke(self, serial: str, *, now: datetime, reason: int) -> None:
        """Revoke it; revoking it again changes nothing.

        Raises:
            Broken: the authority never issued this serial; a CRL would silently miss it.
        """
        self._transaction.change_one(
            _REVOKE, {"wanted": serial, "now": now, "new_reason": reason}, what=f"certificate {serial}"
        )

    def list_revoked(self) -> Sequence[RevokedSerial]:
        """Return all of them, the first revoked first."""
        return [
            RevokedSerial(serial=row.serial, revoked_at=row.revoked_at, reason=row.revocation_reason)
            for row in self._transaction.execute(_LIST_REVOKED)
        ]

    def next_crl_number(self) -> int:
        # The upsert locks the row, so the number read after it is ours alone until the transaction ends.
        _COUNT_UP.run(self._transaction, {"name": _CRL_NUMBER, "value": 1})
        return int(self._transaction.execute(_CRL_NUMBER_NOW).scalar_one())

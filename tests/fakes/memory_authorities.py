"""A store in memory that knows the built-in CA only: real transactions (a snapshot, committed if nobody was quicker)."""

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar, cast

from certorbit.errors import Broken, LostRace
from certorbit.ports.authority_store import Authority, RevokedSerial
from certorbit.ports.store import UnitOfWork

T = TypeVar("T")
_TRIES = 20


@dataclass
class MemoryAuthorities:
    """`ports.store.Authorities` on plain dictionaries."""

    authority: Authority | None = None
    issued: dict[str, str] = field(default_factory=dict)
    serials: dict[str, str] = field(default_factory=dict)  # to their orders
    revoked: dict[str, RevokedSerial] = field(default_factory=dict)
    crl_number: int = 0

    def find(self) -> Authority | None:
        return self.authority

    def add(self, authority: Authority) -> None:
        if self.authority is not None:
            raise LostRace("There is an authority already.")
        self.authority = authority

    def find_issued(self, order_url: str) -> str | None:
        return self.issued.get(order_url)

    def add_issued(self, order_url: str, *, serial: str, chain_pem: str, not_after: datetime) -> None:
        if order_url in self.issued or serial in self.serials:
            raise LostRace("The order or the serial has a certificate already.")
        self.issued[order_url] = chain_pem
        self.serials[serial] = order_url

    def revoke(self, serial: str, *, now: datetime, reason: int) -> None:
        if serial not in self.serials:
            raise Broken(f"certificate {serial} does not exist.")
        self.revoked.setdefault(serial, RevokedSerial(serial=serial, revoked_at=now, reason=reason))

    def list_revoked(self) -> Sequence[RevokedSerial]:
        return sorted(self.revoked.values(), key=lambda entry: (entry.revoked_at, entry.serial))

    def next_crl_number(self) -> int:
        self.crl_number += 1
        return self.crl_number


@dataclass
class _AuthoritiesOnly:
    authorities: MemoryAuthorities


class MemoryAuthorityStore:
    """`ports.store.Store` of which only `tx.authorities` works.

    Each transaction sees a snapshot; others may commit before it does, and then it runs again. `lost_races` counts
    how often that was so.
    """

    def __init__(self) -> None:
        self.authorities = MemoryAuthorities()
        self.lost_races = 0
        self._commits = 0

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        await asyncio.sleep(0)
        return self._run(work, copy.deepcopy(self.authorities))

    async def write(self, work: Callable[[UnitOfWork], T]) -> T:
        for _ in range(_TRIES):
            seen, draft = self._commits, copy.deepcopy(self.authorities)
            await asyncio.sleep(0)  # here others begin and commit
            try:
                result = self._run(work, draft)
            except LostRace:
                self.lost_races += 1
                continue
            await asyncio.sleep(0)
            if seen == self._commits:
                self.authorities, self._commits = draft, self._commits + 1
                return result
            self.lost_races += 1
        raise LostRace("Too many lost races.")

    @staticmethod
    def _run(work: Callable[[UnitOfWork], T], authorities: MemoryAuthorities) -> T:
        return work(cast("UnitOfWork", _AuthoritiesOnly(authorities)))

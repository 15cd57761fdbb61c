"""The built-in CA in the store: its keys, what it issued and what it revoked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Authority:
    """The built-in CA: both certificates as PEM, both keys sealed (contexts `authority:root` and `…:issuing`)."""

    root_pem: str
    issuing_pem: str
    sealed_root_key: bytes = field(repr=False)
    sealed_issuing_key: bytes = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RevokedSerial:
    """A certificate of the built-in CA that is revoked. serial: lower-case hex; reason: RFC 5280 CRLReason number."""

    serial: str
    revoked_at: datetime
    reason: int


class Authorities(Protocol):
    """The one built-in CA of a deployment and what it issued."""

    def find(self) -> Authority | None: ...
    def add(self, authority: Authority) -> None:
        """Insert it. Raises LostRace if another process made it meanwhile."""

    def find_issued(self, order_url: str) -> str | None:
        """Return the chain (PEM) issued for this order, so that a repeated finalisation gives the same one."""

    def add_issued(self, order_url: str, *, serial: str, chain_pem: str, not_after: datetime) -> None:
        """Record it. Raises LostRace if the order or the serial has one already."""

    def revoke(self, serial: str, *, now: datetime, reason: int) -> None: ...
    def list_revoked(self) -> Sequence[RevokedSerial]: ...
    def next_crl_number(self) -> int:
        """Return a number greater than every one returned before (RFC 5280 §5.2.3)."""

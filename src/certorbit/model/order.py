"""The order ledger: what we asked of a CA, written down before we asked (engine.md)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType

from certorbit.model.entry import VersionID, key_context
from certorbit.model.operation import OperationID

OrderID = NewType("OrderID", str)


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """One attempt's order. There is at most one per (operation, attempt).

    sealed_key: the new private key, sealed with `order_key_context(id)`; it is stored before the CA hears of it,
        so that a certificate never exists without its key.
    url: the CA's order URL (for the built-in CA an opaque reference); "" until the CA answered.
    requests: how often newOrder was sent for it: the ledger's own count, raised before each request.
    """

    id: OrderID
    operation: OperationID
    attempt: int
    issuer_name: str
    account: str
    identifiers: tuple[str, ...]
    identifiers_hash: str
    sealed_key: bytes = field(repr=False)
    url: str
    requests: int
    created_at: datetime


def order_key_context(order: OrderID) -> str:
    """Return the associated data of an order's key: that of the version which the order becomes.

    The version takes the order's id, so the key is sealed once and moves without being opened.
    """
    return key_context(VersionID(order))


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a CA. `url` is "" until the CA answered; the key is stored before it is asked."""

    directory: str
    name: str
    sealed_key: bytes = field(repr=False)
    url: str
    contact: tuple[str, ...]
    created_at: datetime


def account_key_context(directory: str, name: str) -> str:
    """Return the associated data that binds a sealed account key to its row."""
    return f"account:{name}:{directory}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """An HTTP-01 answer in the shared store, so that any node can give it (RFC 8555 §8.3)."""

    token: str
    key_authorization: str
    expires_at: datetime

"""API keys: 256 random bits, stored as hashes, shown once."""

import hmac
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256

from certorbit.errors import BadInput, NotFound, NotSignedIn
from certorbit.model.access import APIKey, APIKeyID, Principal, Role
from certorbit.ports.store import UnitOfWork

PREFIX = "co_"  # makes a leaked key recognisable to secret scanners
_PREFIX_LENGTH = 8  # characters shown: "co_" and 5 of 43, which leaves more than 220 bits


def new_secret() -> str:
    """Return a new key: 256 random bits as base64url behind a constant prefix."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_secret(secret: str) -> str:
    """Return what is stored of a key. 256 random bits can't be guessed from a quick hash."""
    return sha256(secret.encode()).hexdigest()


def create_key(
    tx: UnitOfWork,
    *,
    name: str,
    role: Role,
    may_export_keys: bool,
    now: datetime,
    new_id: Callable[[], str],
    secret: str,
) -> APIKey:
    """Store the hash of a key and return its record; the caller shows the secret once.

    Raises:
        BadInput: the name is empty or too long.
    """
    if not name.strip() or len(name) > 100:
        raise BadInput("name: give the key a name of 1 to 100 characters.", subject="name")
    key = APIKey(
        id=APIKeyID(new_id()),
        name=name.strip(),
        prefix=secret[:_PREFIX_LENGTH],
        digest=digest_secret(secret),
        role=role,
        may_export_keys=may_export_keys,
        created_at=now,
    )
    tx.api_keys.add(key)
    return key


def authenticate(tx: UnitOfWork, secret: str) -> Principal:
    """Return who holds this key.

    Raises:
        NotSignedIn: it is unknown or revoked; the two look the same from outside.
    """
    digest = digest_secret(secret)
    key = tx.api_keys.find_by_digest(digest)
    if key is None or not hmac.compare_digest(key.digest, digest) or key.revoked_at is not None:
        raise NotSignedIn("The API key is not known here; check it, or create one with `certorbit api-keys create`.")
    return Principal(key_id=key.id, name=key.name, role=key.role, may_export_keys=key.may_export_keys)


def list_keys(tx: UnitOfWork) -> Sequence[APIKey]:
    """Return all keys' records, oldest first; never the keys."""
    return tx.api_keys.list()


def revoke_key(tx: UnitOfWork, key_id: APIKeyID, *, now: datetime) -> None:
    """Make a key useless. Repeatable.

    Raises:
        NotFound: no such key. BadInput: it is the last administrator's: nobody could make another one.
    """
    key = tx.api_keys.find(key_id)
    if key is None:
        raise NotFound(f"There is no API key {key_id[:80]!r}.", subject="key_id")
    if key.revoked_at is not None:
        return
    administrators = [k for k in tx.api_keys.list() if k.role is Role.ADMIN and k.revoked_at is None]
    if administrators == [key]:
        raise BadInput(f"{key.name!r} is the last administrator's key; create another one first.", subject="key_id")
    tx.api_keys.revoke(key_id, now=now)


def ensure_first_key(
    tx: UnitOfWork, *, bootstrap_secret: str, now: datetime, new_id: Callable[[], str], random_secret: str
) -> str | None:
    """Create the first administrator's key in a new database.

    Returns: the random secret if one was made that must be shown now; None otherwise.
    """
    if tx.api_keys.count() > 0:
        return None
    create_key(
        tx,
        name="bootstrap",
        role=Role.ADMIN,
        may_export_keys=True,
        now=now,
        new_id=new_id,
        secret=bootstrap_secret or random_secret,
    )
    return None if bootstrap_secret else random_secret

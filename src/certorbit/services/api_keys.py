"""API keys: 256 random bits, stored as hashes, shown once; made, changed, rotated, revoked."""

import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from certorbit.errors import BadInput, NotFound, NotSignedIn
from certorbit.model.access import APIKey, APIKeyID, KeyTerms, Principal, Right, Role
from certorbit.model.addresses import is_within, read_networks
from certorbit.model.audit import Action, AuditEvent, ObjectChange
from certorbit.model.key_names import check_key_name
from certorbit.ports.store import UnitOfWork

PREFIX = "co_"  # makes a leaked key recognisable to secret scanners
_OWN_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
_PREFIX_LENGTH = 8  # characters shown: "co_" and 5 of 43, which leaves more than 220 bits
MOST_IN_A_LIST = 50  # configurations or networks of one key
LONGEST_LIFE = timedelta(days=20 * 365)  # beyond it a date is a slip of the pen
LONGEST_OVERLAP = timedelta(days=30)  # in which the secret before a rotation still works


@dataclass(frozen=True, slots=True)
class Recognised:
    """Whose secret it is. ends_at: the instant from which this very secret is of no use; None: never."""

    key: APIKey
    ends_at: datetime | None


def new_secret() -> str:
    """Return a new key: 256 random bits as base64url behind a constant prefix."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_secret(secret: str) -> str:
    """Return what is stored of a key. 256 random bits can't be guessed from a quick hash."""
    return sha256(secret.encode()).hexdigest()


def prefix_of(secret: str) -> str:
    """Return the characters that tell attempts apart; see `shown_prefix_of` for what may be kept and shown."""
    return secret[:_PREFIX_LENGTH]


def shown_prefix_of(secret: str) -> str:
    """Return the characters that a key is recognised by; "" for one of another form than `new_secret`'s.

    An operator's own key may have 20 characters in all, and its first eight may be most of what is hard to guess.
    """
    return prefix_of(secret) if _OWN_FORM.fullmatch(secret) else ""


def create_key(
    tx: UnitOfWork,
    terms: KeyTerms,
    *,
    now: datetime,
    new_id: Callable[[], str],
    secret: str,
    by: Principal | None = None,
) -> APIKey:
    """Store the hash of a key and return its record; the caller shows the secret once.

    by: who asks; None: whoever works on the machine itself.

    Raises:
        BadInput: the terms can't be met. NotAllowed: nobody gives away a right to export keys that he lacks.
    """
    terms = _check_terms(tx, terms, before=None, now=now)
    if terms.may_export_keys and by is not None:
        by.check(Right.EXPORT_KEYS)
    key = APIKey(
        **_values(terms),
        id=APIKeyID(new_id()),
        prefix=shown_prefix_of(secret),
        digest=digest_secret(secret),
        created_at=now,
    )
    tx.api_keys.add(key)
    _record(tx, Action.API_KEY_CREATED, None, key, now=now)
    return key


def authenticate(tx: UnitOfWork, secret: str, *, now: datetime) -> Recognised:
    """Return whose key this is. Addresses are the caller's to check.

    Raises:
        NotSignedIn: it is unknown or revoked, which look the same from outside; or its time is over.
    """
    digest = digest_secret(secret)
    key = tx.api_keys.find_by_digest(digest)
    unknown = NotSignedIn("The API key is not known here; check it, or create one with `certorbit api-keys create`.")
    if key is None or key.revoked_at is not None:
        raise unknown
    ends = [key.expires_at] if key.expires_at is not None else []
    if not hmac.compare_digest(key.digest, digest):
        if key.previous_ends_at is None or not hmac.compare_digest(key.previous_digest or "", digest):
            raise unknown
        ends.append(key.previous_ends_at)
    found = Recognised(key, min(ends, default=None))
    check_not_ended(found, now=now)
    return found


def check_not_ended(found: Recognised, *, now: datetime) -> None:
    """Raise NotSignedIn if its time is over. Whoever has the whole secret may know that."""
    if found.ends_at is not None and now >= found.ends_at:
        raise NotSignedIn(
            f"The API key {found.key.name!r} ended at {found.ends_at.isoformat(timespec='seconds')}; an administrator"
            " can give it a later end or a new secret.",
            subject="expires_at",
        )


def list_keys(tx: UnitOfWork) -> Sequence[APIKey]:
    """Return all keys' records, oldest first; never the keys."""
    return tx.api_keys.list()


def change_key(
    tx: UnitOfWork,
    key_id: APIKeyID,
    change: Callable[[KeyTerms], KeyTerms],
    *,
    now: datetime,
    by: Principal | None = None,
) -> APIKey:
    """Give a key other terms, never another secret, and return its record. Repeatable.

    by: see `create_key`.

    Raises:
        NotFound: no such key. NotAllowed: see `create_key`.
        BadInput: it is revoked, the terms can't be met, or nobody could administer the service any more.
    """
    tx.api_keys.lock()
    key = _get_active(tx, key_id)
    terms = _check_terms(tx, change(key.terms), before=key, now=now)
    if terms.may_export_keys and not key.may_export_keys and by is not None:
        by.check(Right.EXPORT_KEYS)
    changed = replace(key, **_values(terms))
    if terms.allowed_addresses != key.allowed_addresses:
        _check_reachable(changed, by=by)
    _check_door(tx, key, changed)
    tx.api_keys.update(changed)
    if changed != key:
        _record(tx, Action.API_KEY_CHANGED, key, changed, now=now)
    return changed


def rotate_key(
    tx: UnitOfWork,
    key_id: APIKeyID,
    *,
    overlap: timedelta,
    now: datetime,
    secret: str,
    by: Principal | None = None,
) -> APIKey:
    """Give a key a new secret, which the caller shows once; the one before works until the overlap is over.

    A rotation within an overlap ends the secret before the last one at once: two work at most. by: see `create_key`.

    Raises:
        NotFound: no such key. BadInput: it is revoked, or the overlap is out of range.
        NotAllowed: the secret of a key that may export private keys is shown to nobody who may not.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        hours = LONGEST_OVERLAP // timedelta(hours=1)
        raise BadInput(f"overlap_hours: give a number from 0 to {hours}.", subject="overlap_hours")
    tx.api_keys.lock()
    key = _get_active(tx, key_id)
    if key.may_export_keys and by is not None:
        by.check(Right.EXPORT_KEYS)
    rotated = replace(
        key,
        prefix=shown_prefix_of(secret),
        digest=digest_secret(secret),
        rotated_at=now,
        previous_digest=key.digest if overlap else None,
        previous_ends_at=now + overlap if overlap else None,
    )
    tx.api_keys.update(rotated)
    _record(tx, Action.API_KEY_ROTATED, key, rotated, now=now)
    return rotated


def revoke_key(tx: UnitOfWork, key_id: APIKeyID, *, now: datetime) -> None:
    """Make a key useless. Repeatable.

    Raises:
        NotFound: no such key. BadInput: nobody could administer the service any more.
    """
    tx.api_keys.lock()
    key = _get(tx, key_id)
    if key.revoked_at is not None:
        return
    revoked = replace(key, revoked_at=now)
    _check_door(tx, key, revoked)
    tx.api_keys.revoke(key_id, now=now)
    _record(tx, Action.API_KEY_REVOKED, key, revoked, now=now)


def ensure_first_key(
    tx: UnitOfWork, *, bootstrap_secret: str, now: datetime, new_id: Callable[[], str], random_secret: str
) -> str | None:
    """Create the first administrator's key in a new database.

    Returns: the random secret if one was made that must be shown now; None otherwise.
    """
    if tx.api_keys.count() > 0:
        return None
    terms = KeyTerms(name="bootstrap", role=Role.ADMIN, may_export_keys=True)
    create_key(tx, terms, now=now, new_id=new_id, secret=bootstrap_secret or random_secret)
    return None if bootstrap_secret else random_secret


def _get(tx: UnitOfWork, key_id: APIKeyID) -> APIKey:
    key = tx.api_keys.find(key_id)
    if key is None:
        raise NotFound(f"There is no API key {key_id[:80]!r}.", subject="key_id")
    return key


def _get_active(tx: UnitOfWork, key_id: APIKeyID) -> APIKey:
    key = _get(tx, key_id)
    if key.revoked_at is not None:
        raise BadInput(f"The API key {key.name!r} is revoked for good; create another one.", subject="key_id")
    return key


def _check_terms(tx: UnitOfWork, terms: KeyTerms, *, before: APIKey | None, now: datetime) -> KeyTerms:
    """Return the terms in the form in which they are stored. before: the key until now. Raises BadInput."""
    name = terms.name.strip()
    if before is None or name != before.name:  # what was named before there were rules goes on
        check_key_name(name)
    for subject, items in (
        ("configurations", terms.configurations),
        ("allowed_addresses", terms.allowed_addresses),
    ):
        if len(items) > MOST_IN_A_LIST:
            raise BadInput(f"{subject}: give {MOST_IN_A_LIST} at most.", subject=subject)
    for config in terms.configurations:
        if tx.configurations.find(config) is None:
            raise BadInput(f"configurations: there is no configuration {config[:80]!r}.", subject="configurations")
    networks = read_networks(terms.allowed_addresses, subject="allowed_addresses")
    ends = terms.expires_at
    if ends is not None and (before is None or ends != before.expires_at) and not now < ends <= now + LONGEST_LIFE:
        raise BadInput(
            "expires_at: give an instant in the next 20 years, or null for no end; to end a key now, revoke it.",
            subject="expires_at",
        )
    return replace(
        terms,
        name=name,
        configurations=tuple(dict.fromkeys(terms.configurations)),
        allowed_addresses=tuple(dict.fromkeys(str(network) for network in networks)),
        expires_at=None if ends is None else ends.astimezone(UTC),
    )


def _check_reachable(changed: APIKey, *, by: Principal | None) -> None:
    """Raise BadInput if the caller would shut himself out by the addresses of his own key."""
    if by is None or by.key_id != changed.id or not changed.allowed_addresses:
        return
    if not is_within(by.address, read_networks(changed.allowed_addresses, subject="allowed_addresses")):
        raise BadInput(
            f"allowed_addresses: this is the key that you use, and your address {by.address or '(unknown)'} is in none"
            " of these networks; you would shut yourself out.",
            subject="allowed_addresses",
        )


def _check_door(tx: UnitOfWork, key: APIKey, changed: APIKey) -> None:
    """Raise BadInput if the change takes away the last key that will always be able to administer."""
    if not key.keeps_the_door_open or changed.keeps_the_door_open:
        return
    if not any(other.keeps_the_door_open for other in tx.api_keys.list() if other.id != key.id):
        raise BadInput(
            f"{key.name!r} is the last administrator's key without an end and for all configurations: without it"
            " nobody could make another one. Create one first.",
            subject="key_id",
        )


def _record(tx: UnitOfWork, action: Action, before: APIKey | None, after: APIKey, *, now: datetime) -> None:
    state = None if before is None else _state(before)
    change = ObjectChange("api-key", after.id, state, _state(after))
    tx.audit.add(AuditEvent(action=action, objects=(after.id,), changes=(change,)), now=now)


def _state(key: APIKey) -> dict[str, Any]:
    """Return what the audit trail says of a key: its record, and of the secret only the prefix."""
    instants = {
        "expires_at": key.expires_at,
        "rotated_at": key.rotated_at,
        "previous_ends_at": key.previous_ends_at,
        "revoked_at": key.revoked_at,
    }
    return {
        "name": key.name,
        "prefix": key.prefix,
        "role": key.role.value,
        "may_export_keys": key.may_export_keys,
        "configurations": list(key.configurations),
        "allowed_addresses": list(key.allowed_addresses),
        **{name: None if at is None else at.isoformat() for name, at in instants.items()},
    }


def _values(terms: KeyTerms) -> dict[str, Any]:
    return {field.name: getattr(terms, field.name) for field in fields(KeyTerms)}

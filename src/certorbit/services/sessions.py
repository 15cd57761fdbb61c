"""People's sessions: begun, recognised, ended. One transaction each; every secret is a digest here."""

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from certorbit.errors import BadInput, NotSignedIn
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.session import Person, Session, SessionID, SignInRules
from certorbit.ports.store import UnitOfWork

_SEEN_EVERY: Final = timedelta(minutes=1)  # how exactly the last use is known: so often a session costs a write


def digest_secret(secret: str) -> str:
    """Return what is stored of a random secret (256 random bits need no slow hash)."""
    return sha256(secret.encode()).hexdigest()


def make_session(
    person: Person, *, secret: str, state: str, rules: SignInRules, now: datetime, new_id: Callable[[], str]
) -> Session:
    """Return a new session. secret: the cookie's. state: of the sign-in that it comes from."""
    return Session(
        **{field.name: getattr(person, field.name) for field in fields(Person)},
        id=SessionID(new_id()),
        digest=digest_secret(secret),
        state_digest=digest_secret(state),
        rules_digest=rules.digest,
        created_at=now,
        expires_at=now + rules.lifetime,
        last_seen_at=now,
    )


def start_session(tx: UnitOfWork, session: Session, *, issuer: str, before: str | None, now: datetime) -> None:
    """Store a new session; those whose time is over go.

    before: digest of the session that the browser had until now; it ends.

    Raises:
        BadInput: this sign-in was used already.
    """
    tx.sessions.delete_expired(now=now)
    if tx.sessions.has_state(session.state_digest):
        raise BadInput("This sign-in was used already; begin again at /auth/login.", subject="state")
    if before is not None:
        tx.sessions.delete(before)
    tx.sessions.add(session)
    details = {
        "issuer": issuer,
        "subject": session.subject,
        "email": session.email,
        "configurations": list(session.configurations),
        "may_export_keys": session.may_export_keys,
    }
    tx.audit.add(AuditEvent(action=Action.SESSION_STARTED, objects=(session.id,), details=details), now=now)


def find_session(tx: UnitOfWork, digest: str, *, rules: SignInRules, now: datetime) -> Session:
    """Return the session whose cookie this is the digest of.

    Raises:
        NotSignedIn: it is unknown, or over.
    """
    session = tx.sessions.find(digest)
    if session is None or not session.is_live(rules, now=now):
        raise NotSignedIn("Your session is over or unknown; sign in at /auth/login.", subject="session")
    return session


def is_use_due(session: Session, *, now: datetime) -> bool:
    """Return whether its last use is to be written down again."""
    return now - session.last_seen_at >= _SEEN_EVERY


def end_session(tx: UnitOfWork, session: Session, *, now: datetime) -> None:
    """Delete the session; nothing happens if it is gone already."""
    if tx.sessions.delete(session.digest):
        tx.audit.add(AuditEvent(action=Action.SESSION_ENDED, objects=(session.id,)), now=now)

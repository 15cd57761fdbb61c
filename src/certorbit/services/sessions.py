"""People's sessions: begun, recognised, ended. One transaction each; every secret is a digest here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from certorbit.errors import BadInput, NotFound, NotSignedIn
from certorbit.model.audit import Action, AuditEvent, AuditQuery
from certorbit.model.session import Person, Session, SessionID, SignInRules
from certorbit.ports.store import UnitOfWork

_RECORDS_AT_ONCE: Final = 500
_SEEN_EVERY: Final = timedelta(minutes=1)  # how exactly the last use is known: so often a session costs a write


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that counts. address: from where the person signed in; "" if the audit trail has it no more."""

    session: Session
    address: str


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


def list_sessions(tx: UnitOfWork, *, rules: SignInRules, subject: str | None, now: datetime) -> Sequence[SignedIn]:
    """Return who is signed in, the newest first. subject: only this person's sessions; None: everybody's."""
    found = [session for session in tx.sessions.list(subject=subject, now=now) if session.is_live(rules, now=now)]
    addresses = _find_addresses(tx, found)
    return [SignedIn(session, addresses.get(session.id, "")) for session in found]


def end_session(tx: UnitOfWork, session: Session, *, now: datetime) -> bool:
    """Delete the session, whoever asks for it; return whether it was there. Repeatable."""
    is_there = tx.sessions.delete(session.digest)
    if is_there:
        details = {"subject": session.subject, "name": session.name}
        tx.audit.add(AuditEvent(action=Action.SESSION_ENDED, objects=(session.id,), details=details), now=now)
    return is_there


def end_one(tx: UnitOfWork, session_id: SessionID, *, now: datetime) -> None:
    """Delete a session by its id.

    Raises:
        NotFound: there is none; it may have ended by itself.
    """
    session = tx.sessions.find_by_id(session_id)
    if session is None or not end_session(tx, session, now=now):
        raise NotFound(f"There is no session {session_id[:80]!r}; it may have ended already.", subject="session_id")


def end_all_of(tx: UnitOfWork, subject: str, *, now: datetime) -> int:
    """Delete all of a person's sessions; return how many there were. Repeatable.

    Those that don't count, too: with the settings from before a change they would count again.
    A sign-in that ends while this does may stay: who is not to come back is put out at the provider first.
    """
    return sum(end_session(tx, session, now=now) for session in tx.sessions.list(subject=subject, now=now))


def _find_addresses(tx: UnitOfWork, found: Sequence[Session]) -> dict[str, str]:
    """Return from where people signed in, by their sessions' ids, as far as the audit trail has it."""
    if not found:
        return {}
    started = [session.created_at for session in found]
    query = AuditQuery(action=Action.SESSION_STARTED, since=min(started), until=max(started) + timedelta(seconds=1))
    wanted, addresses = {session.id for session in found}, dict[str, str]()
    before: int | None = None
    while len(addresses) < len(wanted):
        records = tx.audit.list(query, before=before, limit=_RECORDS_AT_ONCE)
        for record in records:
            addresses.update({one: record.actor.address for one in record.event.objects if one in wanted})
        if len(records) < _RECORDS_AT_ONCE:
            break
        before = records[-1].place
    return addresses

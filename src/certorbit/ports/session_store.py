"""Sessions of people: a part of the store. Cookies are never in it, only their digests."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from certorbit.model.session import Session, SessionID


class Sessions(Protocol):
    def add(self, session: Session) -> None:
        """Insert it. Raises LostRace if a session came from the same sign-in already."""

    def find(self, digest: str) -> Session | None:
        """Return the session, ended or not, by its cookie's digest."""

    def find_by_id(self, session: SessionID) -> Session | None:
        """Return the session, ended or not, by the id that lists and records show."""

    def list(self, *, subject: str | None, now: datetime) -> Sequence[Session]:
        """Return those whose lifetime isn't over, the newest first. subject: of this person alone; None: of all."""

    def has_state(self, state_digest: str) -> bool:
        """Return whether a session came from this sign-in."""

    def note_seen(self, digest: str, *, now: datetime) -> None:
        """Write when it was used last. Harmless if it is gone meanwhile."""

    def delete(self, digest: str) -> bool:
        """Delete it; return whether it was there."""

    def delete_expired(self, *, now: datetime) -> int:
        """Delete those whose lifetime is over. Returns how many."""

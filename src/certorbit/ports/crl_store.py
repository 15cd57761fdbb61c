"""Revocation lists and verdicts: a part of the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from certorbit.model.crl import Verdict
from certorbit.model.entry import ConfigID, Entry, VersionID
from certorbit.model.standing import RevocationStanding


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCRL:
    """A list that was downloaded, or that was to be: an issuer's at a URL. Its content is read by `load_crl`.

    etag, last_modified: what the server said of the content that is stored.
    number, this_update, next_update: what the stored list says of itself; None: nothing is stored yet.
    fetched_at: when the server confirmed it last.
    failures: downloads that failed one after the other, up to now. problem: why the last one did.
    digest: SHA-256 (hex) of the content; "" if there is none.
    """

    url: str
    issuer_id: str
    next_fetch_at: datetime
    etag: str = ""
    last_modified: str = ""
    number: int | None = None
    this_update: datetime | None = None
    next_update: datetime | None = None
    fetched_at: datetime | None = None
    failures: int = 0
    problem: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class DueVersion:
    """A version whose look has come. entry: with the version as its current one; None: it isn't any more."""

    version: VersionID
    entry: Entry | None
    verdict: Verdict


class Revocations(Protocol):
    """What is known of the revocation of versions.

    Every version that can be revoked (not a CA bundle's, not the placeholder's) has a verdict, unknown and due at
    once, from the transaction that added it; one that is made current again is due at once again.
    """

    def list_due(self, *, now: datetime, limit: int) -> Sequence[DueVersion]:
        """Return versions whose look has come, the longest due first. By an index: its cost is that of the page."""

    def find_verdict(self, version: VersionID) -> Verdict | None:
        """Return what was found out, as it was then (see `Verdict.at`)."""

    def put_verdict(self, version: VersionID, verdict: Verdict, *, look_at: datetime | None) -> None:
        """Write it, and when to look again (None: never). Harmless if the version is gone meanwhile."""

    def look_at(self, version: VersionID, instant: datetime) -> None:
        """Let the look come to the version then; what is known of it stays."""

    def list_revoked(self, config: ConfigID, *, now: datetime) -> frozenset[VersionID]:
        """Return those of the configuration's current versions that are revoked: one query."""

    def count_standings(self, *, now: datetime) -> Mapping[RevocationStanding, int]:
        """Return how many current versions that can be revoked stand how: one query."""

    def find_crl(self, url: str, issuer_id: str) -> StoredCRL | None: ...
    def load_crl(self, url: str, issuer_id: str) -> bytes | None:
        """Return the list's content (DER, or as it came); None: there is none."""

    def put_crl(self, crl: StoredCRL, *, der: bytes | None = None) -> None:
        """Insert or overwrite. der: None: the content that is stored stays."""

    def delete_crls_before(self, instant: datetime) -> int:
        """Delete lists that were to be fetched before then: no certificate needs them any more. Returns how many."""

"""The store of key-encryption keys, and of all that is sealed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from certorbit.model.keyring import SealedSecret, StoredKey


class KeyEncryptionKeys(Protocol):
    def list(self) -> Sequence[StoredKey]:
        """Return all, retired ones too, the oldest first."""

    def find(self, key: str) -> StoredKey | None: ...
    def add(self, key: StoredKey) -> None:
        """Insert it. Raises LostRace if it is there already."""

    def set_retired(self, key: str, at: datetime | None) -> None:
        """Retire it, or (None) take that back. The row stays: what is found later still opens."""


class SealedSecrets(Protocol):
    """Every envelope of the database. A new sealed column is added in the implementation; a test compares."""

    def kinds(self) -> Sequence[str]: ...
    def count_by_key(self) -> Mapping[str, int]:
        """Return how many envelopes name each key-encryption key. Reads all of them: for people, not for requests."""

    def list_others(self, kind: str, *, than: str, after: tuple[str, ...] | None, limit: int) -> Sequence[SealedSecret]:
        """Return secrets of a kind that another key than `than` seals, in the order of their keys.

        after: only those behind this key.
        """

    def replace(self, secret: SealedSecret, envelope: bytes) -> bool:
        """Write the new envelope if the row still holds the old one; return whether it did."""

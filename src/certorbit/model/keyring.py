"""Key-encryption keys as they lie in the database, and the secrets that are sealed by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

FILE: Final = "file"  # the provider whose keys come from the settings or from a file
KNOWN_VALUE_CONTEXT: Final = "keyring-check"  # binds the known value that shows whose the database is
ROOT_KEY_CONTEXT: Final = "authority:root"
ISSUING_KEY_CONTEXT: Final = "authority:issuing"


def shelf_key_context(target: str, item: str) -> str:
    """Return the associated data that binds a sealed key to its place on a target's shelf."""
    return f"shelf:{target}:{item}"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key-encryption key.

    id: lower-case hex of the first 8 bytes of its SHA-256, as envelopes name it.
    provider: who wraps it. wrapping_key: which of the provider's keys, in the provider's own words.
    wrapped: empty: the key itself comes from the settings or the key file.
    retired_at: since when nothing is sealed by it.
    """

    id: str
    provider: str
    wrapping_key: str
    wrapped: bytes = field(repr=False)
    created_at: datetime
    retired_at: datetime | None = None

    @property
    def is_direct(self) -> bool:
        return not self.wrapped


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """One envelope. kind: the table and column that it lies in. key: its row's primary key. context: what binds it."""

    kind: str
    key: tuple[str, ...]
    context: str
    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyringStatus:
    """How the keyring stands.

    keys: the oldest first. sealing: the id of the key that seals; "" before the first start.
    secrets: how many envelopes name a key, by its id; also keys that are in no row.
    """

    keys: Sequence[StoredKey]
    sealing: str
    secrets: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.secrets.values())

    @property
    def to_rewrap(self) -> int:
        return self.total - self.secrets.get(self.sealing, 0)


def newest_in_use(keys: Sequence[StoredKey]) -> StoredKey | None:
    """Return the key that seals: the newest that is not retired."""
    return max((key for key in keys if key.retired_at is None), key=lambda key: (key.created_at, key.id), default=None)

"""Who may do what."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from certorbit.errors import NotAllowed

APIKeyID = NewType("APIKeyID", str)


class Role(StrEnum):
    ADMIN = "admin"
    READ_ONLY = "read-only"


class Right(StrEnum):
    READ = "read"
    WRITE = "write"
    EXPORT_KEYS = "export-keys"
    ADMINISTER = "administer"


_RIGHTS: dict[Role, frozenset[Right]] = {
    Role.ADMIN: frozenset({Right.READ, Right.WRITE, Right.ADMINISTER}),
    Role.READ_ONLY: frozenset({Right.READ}),
}


@dataclass(frozen=True, slots=True)
class APIKey:
    """An API key as stored: never the key itself.

    prefix: its first characters, shown for recognition.
    digest: lower-case hex SHA-256 of the whole key (256 random bits need no slow hash).
    may_export_keys: the right to read private keys; separate from the role.
    """

    id: APIKeyID
    name: str
    prefix: str
    digest: str
    role: Role
    may_export_keys: bool
    created_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request."""

    key_id: APIKeyID
    name: str
    role: Role
    may_export_keys: bool

    def has(self, right: Right) -> bool:
        if right is Right.EXPORT_KEYS:
            return self.may_export_keys
        return right in _RIGHTS[self.role]

    def check(self, right: Right) -> None:
        """Raise NotAllowed unless the caller has the right."""
        if not self.has(right):
            raise NotAllowed(
                f"The API key {self.name!r} ({self.role}) has no right to {_WORDS[right]}. Use another key or ask"
                " an administrator.",
                subject=right,
            )


_WORDS = {
    Right.READ: "read",
    Right.WRITE: "change anything",
    Right.EXPORT_KEYS: "export private keys",
    Right.ADMINISTER: "administer the service",
}

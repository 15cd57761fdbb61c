"""Who may do what: roles and their rights, API keys as stored, and the caller of a request (docs/access.md)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NewType

from certorbit.errors import NotAllowed
from certorbit.model.entry import ConfigID

APIKeyID = NewType("APIKeyID", str)
_READ_ONLY = "read-only"  # the viewer's name before there were more roles; rows and clients have it still


class Role(StrEnum):
    """What a caller is there for; the table below says what that lets it do."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"
    AUDITOR = "auditor"
    EDGE = "edge"

    @classmethod
    def _missing_(cls, value: object) -> "Role | None":
        return cls.VIEWER if value == _READ_ONLY else None


class Right(StrEnum):
    READ_CERTIFICATES = "read-certificates"
    READ = "read"
    WRITE = "write"
    ADMINISTER = "administer"
    AUDIT = "audit"
    EXPORT_KEYS = "export-keys"


_LOOK = frozenset({Right.READ_CERTIFICATES, Right.READ})
# Exporting private keys is in no role: each key has it or hasn't.
RIGHTS: Mapping[Role, frozenset[Right]] = MappingProxyType(
    {
        Role.ADMIN: _LOOK | {Right.WRITE, Right.ADMINISTER, Right.AUDIT},
        Role.OPERATOR: _LOOK | {Right.WRITE},
        Role.VIEWER: _LOOK,
        Role.AUDITOR: _LOOK | {Right.AUDIT},
        Role.EDGE: frozenset({Right.READ_CERTIFICATES}),
    }
)
_WORDS = {
    Right.READ_CERTIFICATES: "read certificates",
    Right.READ: "read this",
    Right.WRITE: "change anything",
    Right.ADMINISTER: "administer the service",
    Right.AUDIT: "read the records of API keys and sessions and the audit trail",
    Right.EXPORT_KEYS: "export private keys",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What an administrator decides about an API key.

    may_export_keys: the right to read private keys; separate from the role.
    configurations: those that the key is for; none: all, and what belongs to no single one.
    allowed_addresses: networks in CIDR form that it may be used from; none: any.
    expires_at: the instant from which it is of no use; None: never.
    """

    name: str
    role: Role
    may_export_keys: bool = False
    configurations: tuple[ConfigID, ...] = ()
    allowed_addresses: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class APIKey(KeyTerms):
    """An API key as stored: never the key itself.

    prefix: its first characters, shown for recognition; "" for a key that an operator made up.
    digest: lower-case hex SHA-256 of the whole key (256 random bits need no slow hash).
    previous_digest: of the key before the last rotation, which works until `previous_ends_at`.
    last_used_at, last_used_from: to the minute; the address as far as the service can know it.
    """

    id: APIKeyID
    prefix: str
    digest: str
    created_at: datetime
    revoked_at: datetime | None = None
    rotated_at: datetime | None = None
    previous_digest: str | None = None
    previous_ends_at: datetime | None = None
    last_used_at: datetime | None = None
    last_used_from: str = ""

    @property
    def terms(self) -> KeyTerms:
        return KeyTerms(**{field.name: getattr(self, field.name) for field in fields(KeyTerms)})

    @property
    def keeps_the_door_open(self) -> bool:
        """Whether it will always be able to administer: the last one of these can't be taken away by the API.

        Addresses don't count: a wrong list is noticed when it is set (services/api_keys.py).
        """
        is_lasting = self.revoked_at is None and self.expires_at is None
        return self.role is Role.ADMIN and is_lasting and not self.configurations

    def principal(self, address: str) -> "Principal":
        """Return the key's holder, who calls from this address."""
        return Principal(
            key_id=self.id,
            name=self.name,
            role=self.role,
            may_export_keys=self.may_export_keys,
            configurations=frozenset(self.configurations),
            address=address,
        )


@dataclass(frozen=True, slots=True)
class KeyUse:
    """When and from where a key was used last."""

    key: APIKeyID
    at: datetime
    address: str


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request.

    key_id: of the API key, or of a person's session. name: what histories record.
    configurations: those that it may reach; none: all. address: where it calls from; "" when nobody knows.
    is_person: signed in (docs/sign-in.md), not by an API key.
    """

    key_id: APIKeyID
    name: str
    role: Role
    may_export_keys: bool
    configurations: frozenset[ConfigID] = frozenset()
    address: str = ""
    is_person: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether it is for some configurations only."""
        return bool(self.configurations)

    @property
    def _who(self) -> str:
        return f"Your sign-in {self.name!r}" if self.is_person else f"The API key {self.name!r}"

    @property
    def _advice(self) -> str:
        return "Ask an administrator." if self.is_person else "Use another key or ask an administrator."

    def has(self, right: Right) -> bool:
        if right is Right.EXPORT_KEYS:
            return self.may_export_keys
        return right in RIGHTS[self.role]

    def check(self, right: Right) -> None:
        """Raise NotAllowed unless the caller has the right."""
        if not self.has(right):
            raise NotAllowed(
                f"{self._who} ({self.role}) has no right to {_WORDS[right]}. {self._advice}",
                subject=right,
            )

    def may_reach(self, config: str) -> bool:
        return not self.configurations or config in self.configurations

    def check_configuration(self, config: str) -> None:
        """Raise NotAllowed unless the caller may reach the configuration; whether it exists is not looked at."""
        if not self.may_reach(config):
            raise NotAllowed(
                f"{self._who} is not for the configuration {config[:80]!r}, only for"
                f" {_list(self.configurations)}. {self._advice}",
                subject="config",
            )

    def check_unlimited(self) -> None:
        """Raise NotAllowed if the caller is for some configurations only: what it asks for belongs to none of them."""
        if self.is_limited:
            raise NotAllowed(
                f"{self._who} is for {_list(self.configurations)} only, and this concerns every configuration."
                f" {'Ask an administrator.' if self.is_person else 'Use a key without that limit.'}",
                subject="config",
            )


def _list(configurations: Collection[ConfigID]) -> str:
    names = sorted(configurations)
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")

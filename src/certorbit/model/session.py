"""Who signs in, as what, and for how long: rules over an identity provider's claims (docs/sign-in.md). Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NewType

from certorbit.errors import NotAllowed
from certorbit.model.access import APIKeyID, Principal, Role
from certorbit.model.entry import ConfigID
from certorbit.model.key_names import PERSON_PREFIX
from certorbit.oidc_settings import ALL_CONFIGURATIONS, OIDCSettings

SessionID = NewType("SessionID", str)
# Claims of a token whose signature, issuer, audience, times and nonce were checked.
VerifiedClaims = NewType("VerifiedClaims", Mapping[str, Any])

# Of several roles that a person's groups give, the first one here.
_BY_POWER: Final = (Role.ADMIN, Role.OPERATOR, Role.AUDITOR, Role.VIEWER, Role.EDGE)
_LONGEST_SUBJECT: Final = 255  # OpenID Connect Core 1.0 §2: ASCII, at most that long
_LONGEST_NAME: Final = 254
_MOST_VALUES: Final = 10_000  # of a claim; nobody is in more groups


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInRules:
    """`[oidc]` as rules.

    roles, default_role: None: whom no value meets doesn't get in. configurations: empty: everybody reaches all.
    digest: of everything here that says who gets in as what: sessions from before a change of it end.
    """

    issuer: str
    role_claim: str
    roles: Mapping[str, Role]
    default_role: Role | None
    configurations: Mapping[str, tuple[ConfigID, ...]]
    export_keys: frozenset[str]
    name_claim: str
    email_domains: frozenset[str]
    lifetime: timedelta
    idle: timedelta
    digest: str


def rules_from(settings: OIDCSettings) -> SignInRules:
    """Return the rules of the settings."""
    deciding = settings.model_dump(mode="json", exclude={"client_secret", "ca_bundle", "timeout_seconds", "scopes"})
    return SignInRules(
        issuer=settings.issuer,
        role_claim=settings.role_claim,
        roles={value: Role(role) for value, role in settings.roles.items()},
        default_role=Role(settings.default_role) if settings.default_role else None,
        configurations={value: tuple(map(ConfigID, ids)) for value, ids in settings.configurations.items()},
        export_keys=frozenset(settings.export_keys),
        name_claim=settings.name_claim,
        email_domains=frozenset(domain.lower() for domain in settings.email_domains),
        lifetime=timedelta(hours=settings.lifetime_hours),
        idle=timedelta(minutes=settings.idle_minutes),
        digest=hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who signs in. subject: the provider's own name for the person. name: what histories record."""

    subject: str
    name: str
    email: str
    role: Role
    may_export_keys: bool = False
    configurations: tuple[ConfigID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Person):
    """A person who is signed in, as stored.

    digest: SHA-256 (hex) of the cookie's 256 random bits, which are stored nowhere.
    state_digest: of the sign-in that it came from; one gives one session.
    """

    id: SessionID
    digest: str
    state_digest: str
    rules_digest: str
    created_at: datetime
    expires_at: datetime
    last_seen_at: datetime

    def is_live(self, rules: SignInRules, *, now: datetime) -> bool:
        """Return whether it still counts."""
        if self.rules_digest != rules.digest:
            return False
        return now < self.expires_at and now < self.last_seen_at + rules.idle

    def principal(self, address: str) -> Principal:
        """Return the person as the caller of a request."""
        return Principal(
            key_id=APIKeyID(self.id),
            name=self.name,
            role=self.role,
            may_export_keys=self.may_export_keys,
            configurations=frozenset(self.configurations),
            address=address,
            is_person=True,
        )


def admit(rules: SignInRules, claims: VerifiedClaims) -> Person:
    """Return who the claims are of, with what the rules give.

    Raises:
        NotAllowed: the rules let this person not in, or the claims name nobody.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.strip() or len(subject) > _LONGEST_SUBJECT or not _is_plain(subject):
        raise NotAllowed("The identity provider gave no usable `sub`; its administrator has to look.", subject="sub")
    email = _verified_email(claims)
    _check_domain(rules, email)
    values = _values_at(claims, rules.role_claim)
    found = {rules.roles[value] for value in values if value in rules.roles}
    role = next((role for role in _BY_POWER if role in found), rules.default_role)
    if role is None:
        raise NotAllowed(
            f"You are known to the identity provider, but nothing in its claim {rules.role_claim!r} gives you a role"
            " here; ask an administrator ([oidc] roles).",
            subject="role",
        )
    return Person(
        subject=subject,
        name=f"{PERSON_PREFIX}{_name(rules, claims, email=email, subject=subject)}",
        email=email,
        role=role,
        may_export_keys=not rules.export_keys.isdisjoint(values),
        configurations=_configurations(rules, values),
    )


def _configurations(rules: SignInRules, values: frozenset[str]) -> tuple[ConfigID, ...]:
    if not rules.configurations:
        return ()
    found = {config for value in values for config in rules.configurations.get(value, ())}
    if not found:
        raise NotAllowed(
            f"You are known to the identity provider, but nothing in its claim {rules.role_claim!r} gives you a"
            " configuration here; ask an administrator ([oidc] configurations).",
            subject="configurations",
        )
    return () if ALL_CONFIGURATIONS in found else tuple(sorted(found))


def _check_domain(rules: SignInRules, email: str) -> None:
    if rules.email_domains and email.rpartition("@")[2].lower() not in rules.email_domains:
        raise NotAllowed(
            "Only people with a verified email address of certain domains may sign in here ([oidc] email_domains).",
            subject="email",
        )


def _verified_email(claims: Mapping[str, Any]) -> str:
    """Return the address if the provider vouches for it; anybody may write another's into his own profile."""
    email = claims.get("email")
    if not isinstance(email, str) or claims.get("email_verified") is not True:
        return ""
    is_one = email.count("@") == 1 and not email.startswith("@") and not email.endswith("@")
    return email if is_one and len(email) <= _LONGEST_NAME and " " not in email and _is_plain(email) else ""


def _name(rules: SignInRules, claims: Mapping[str, Any], *, email: str, subject: str) -> str:
    chosen = claims.get(rules.name_claim) if rules.name_claim else None
    if isinstance(chosen, str) and chosen.strip() and len(chosen) <= _LONGEST_NAME and chosen.isprintable():
        return chosen
    return email or subject


def _values_at(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """Return the claim's texts, whether it is one or a list; a name with dots may lead into an object."""
    found: Any = claims.get(claim)
    if found is None:
        found = claims
        for part in claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    listed: Iterable[Any] = [found] if isinstance(found, str) else found if isinstance(found, list) else ()
    return frozenset(value for value, _ in zip(listed, range(_MOST_VALUES), strict=False) if isinstance(value, str))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()

"""`[oidc]`: people sign in by an OpenID Connect provider (docs/sign-in.md)."""

from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

RoleName = Literal["admin", "operator", "viewer", "auditor", "edge"]
# What tokens may be signed with: public keys only. A provider's own word for Ed25519 is EdDSA or Ed25519 (RFC 9864).
Algorithm = Literal["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
ALL_CONFIGURATIONS: Final = "*"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class OIDCSettings(BaseModel):
    """`[oidc]`. Without `issuer` nobody signs in, and API keys are the only way in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field("", description="The provider's issuer URL, exactly as its own metadata has it")
    client_id: str = Field("", description="What the provider knows this service by")
    client_secret: SecretStr = Field(SecretStr(""), description="The secret that goes with it; empty: a public client")
    scopes: tuple[str, ...] = Field(
        ("openid", "profile", "email"), description="Scopes to ask for; some providers want `groups` for that claim"
    )
    algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "PS256", "ES256", "EdDSA", "Ed25519"),
        min_length=1,
        description="What ID tokens may be signed with; whatever a token says of itself, no other is tried",
    )
    ca_bundle: Path | None = Field(
        None, description="PEM file with the roots that the provider's HTTPS is checked against; else the system's"
    )
    timeout_seconds: float = Field(10.0, gt=0, le=60, description="How long one request to the provider may take")
    role_claim: str = Field(
        "groups",
        min_length=1,
        description="The claim with a person's groups; `realm_access.roles` is one within another",
    )
    roles: dict[str, RoleName] = Field(
        {},
        description="Role by the claim's value; of several the most powerful: admin, operator, auditor, viewer, edge",
    )
    default_role: Literal["", RoleName] = Field(
        "", description="Role of those whom no value of `roles` meets; empty: they don't get in"
    )
    configurations: dict[str, tuple[str, ...]] = Field(
        {},
        description='Configurations by the same claim\'s value, `["*"]` for all; empty: everybody reaches all; else who'
        " meets none of these doesn't get in",
    )
    export_keys: tuple[str, ...] = Field(
        (), description="Values of the same claim that give the right to read private keys; no role does"
    )
    name_claim: str = Field(
        "", description="The claim that people are named by in histories; empty: a verified `email`, else `sub`"
    )
    email_domains: tuple[str, ...] = Field(
        (), description="Only people with a verified email address in one of these domains get in; empty: no such rule"
    )
    lifetime_hours: float = Field(
        8.0, gt=0, le=168, description="Hours after which one signs in anew, whatever was done"
    )
    idle_minutes: float = Field(60.0, ge=5, le=10_080, description="Minutes without a request that end a session")

    @property
    def is_on(self) -> bool:
        """Return whether people can sign in."""
        return bool(self.issuer)

    @model_validator(mode="after")
    def _check(self) -> "OIDCSettings":
        if not self.is_on:
            return self
        parts = urlsplit(self.issuer)
        if not is_safe_url(self.issuer) or parts.query or parts.fragment:
            raise ValueError("oidc: issuer must be an https URL without query (http only on a loopback address)")
        if not self.client_id.isprintable() or not self.client_id:
            raise ValueError("oidc: issuer and client_id go together")
        if "openid" not in self.scopes or any(not scope.isascii() or " " in scope for scope in self.scopes):
            raise ValueError("oidc: scopes are single words, and `openid` is one of them")
        if not self.roles and not self.default_role:
            raise ValueError("oidc: nobody could sign in; say in roles who is what, or set default_role")
        if any("@" in domain or not domain for domain in self.email_domains):
            raise ValueError("oidc: email_domains are names as example.org, without @")
        return self


def is_safe_url(url: str) -> bool:
    """Return whether it is an https URL with a host and without user or password; http on a loopback address, too."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    is_plain = not url.isprintable() or " " in url or "\\" in url
    if is_plain or not host or parts.username is not None or parts.password is not None or port == 0:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)

"""`[access]`: how callers' addresses are found out, and how often they may fail to sign in."""

from ipaddress import ip_network

from pydantic import BaseModel, ConfigDict, Field, field_validator


class AccessSettings(BaseModel):
    """`[access]` (docs/access.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Networks of the proxies in front of the service, for example `10.0.0.0/24`: a caller's address is"
        " then the last one in X-Forwarded-For that isn't a proxy's; without them the header is not looked at",
    )
    failures_per_minute: int = Field(
        30,
        ge=1,
        le=10_000,
        description="Unknown API keys per minute and process, from one address (IPv6: one /64) and with one prefix;"
        " beyond them 429. Keys that are known go on",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError:
                raise ValueError(f"{text!r} is no network, for example 10.0.0.0/24") from None
        return value

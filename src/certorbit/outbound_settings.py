"""`[outbound]`: which addresses and ports may be reached for URLs that somebody else wrote."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator


class OutboundSettings(BaseModel):
    """`[outbound]` (docs/revocation.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: tuple[str, ...] = Field(
        (),
        description="Networks that URLs out of certificates may lead to although they are not public, for example"
        " `10.20.0.0/16` where a CA of the house publishes its revocation lists",
    )
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        (), description="Ports that such URLs may name besides 80 and 443"
    )

    @field_validator("allow")
    @classmethod
    def _check_allow(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError:
                raise ValueError(
                    f"{text[:80]!r} is not a network, for example 10.20.0.0/16 (no bits set behind the prefix)"
                ) from None
        return value

    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return `allow`, parsed."""
        return tuple(ip_network(text) for text in self.allow)

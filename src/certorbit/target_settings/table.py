"""What the `[[targets]]` tables of all types have."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")


def _check_address(text: str) -> str:
    """Accept a host name, an IP address, or either with a port (an IPv6 address with a port in brackets)."""
    split_address(text, 443)
    return text


def split_address(text: str, port: int) -> tuple[str, int]:
    """Return host and port of `host`, `host:port`, `[address]:port` or a bare IPv6 address.

    Raises:
        ValueError: it is none of them.
    """
    host, own_port = text.strip(), ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host.startswith("["):
            host, _, own_port = host[1:].partition("]")
            own_port = own_port.removeprefix(":")
            ipaddress.ip_address(host)
        elif ":" in host:
            host, _, own_port = host.rpartition(":")
        if not own_port:
            own_port = str(port)
        if not own_port.isdigit() or not 0 < int(own_port) < 65536:
            raise ValueError(f"{text!r} is not an address: write host, host:port or [IPv6 address]:port") from None
        if not _HOST.match(host) and ":" not in host:
            raise ValueError(f"{text!r} is not an address: write host, host:port or [IPv6 address]:port") from None
        return host, int(own_port)
    return host, port


ProbeAddress = Annotated[str, AfterValidator(_check_address)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,62})$")]


class Table(BaseModel):
    """An unknown name in a table is an error, and no message repeats a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TargetTable(Table):
    """What all targets have."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="Its name in messages, records and links")
    configurations: tuple[str, ...] = Field(
        (), description="The configurations whose certificates may go there; none: all"
    )
    grace_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long a change may take until every address serves it; then the listener gets its old"
        " certificate back",
    )
    timeout_seconds: float = Field(30.0, gt=0, le=300, description="Longest time of one call")


class ListenerTable(Table):
    """One `[[targets.listeners]]` table, for load balancers that can't be asked what they have."""

    name: Name = Field(description="The listener's name, as the API shows it")
    port: int = Field(443, ge=1, le=65535, description="Its TCP port")
    addresses: tuple[ProbeAddress, ...] = Field(
        (),
        description="Where the proof connects to: host, host:port or [IPv6 address]:port; none: the target's host",
    )


class OwnTargetTable(TargetTable):
    """What targets have that the operator runs himself."""

    load_balancer: str = Field("", max_length=63, description="Name of the load balancer; empty: the target's name")
    region: str = Field("", max_length=63, description="Region as the API shows it")
    host: str = Field("", description="The load balancer's name or address, for the proof and as `dns_name`")

    @property
    def shown_name(self) -> str:
        return self.load_balancer or self.name


class WithListeners(OwnTargetTable):
    """A target whose listeners stand in the settings."""

    @model_validator(mode="after")
    def _check_listeners(self) -> "WithListeners":
        listeners: tuple[ListenerTable, ...] = getattr(self, "listeners", ())
        places = [(listener.name, listener.port) for listener in listeners]
        if len(set(places)) < len(places):
            raise ValueError(f"target {self.name!r}: two listeners have the same name and port")
        for listener in listeners:
            if not listener.addresses and not self.host:
                raise ValueError(
                    f"target {self.name!r}: listener {listener.name!r} has no addresses and the target no host;"
                    " the proof needs one of them"
                )
        return self

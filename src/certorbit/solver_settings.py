"""The `[[solvers]]` tables of the settings: who proves control of which names, by which challenge.

Each type of solver has its own options, and a table with an option of another type is refused. docs/dns-01.md tells
how to set each of them up.
"""

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

DNS_PORT = 53
_ZONE = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?")


def split_server(text: str) -> tuple[str, int]:
    """Return host and port of a name server: `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:5353`, `ns.example.com`.

    Raises:
        ValueError: it is not of that form.
    """
    host, separator, port = text.rpartition(":")
    if not separator or (":" in host and not host.endswith("]")):  # no port, or an IPv6 address without brackets
        host, port = text, str(DNS_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or not 0 < int(port) < 65536 or not (_is_address(host) or _HOST.fullmatch(host)):
        raise ValueError(f"{text!r} is no name server; write 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:5353")
    return host, int(port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_server(text: str) -> str:
    split_server(text)
    return text


def _check_address(text: str) -> str:
    if not _is_address(split_server(text)[0]):
        raise ValueError(f"{text!r} is no IP address; name servers that are asked are given by address")
    return text


def _check_zone(text: str) -> str:
    zone = text.strip().strip(".").lower()
    if zone and not _ZONE.fullmatch(zone):
        raise ValueError(
            f"{text!r} is no zone; write it as in the DNS, for example example.com or xn--bcher-kva.example"
        )
    return zone


Zone = Annotated[str, AfterValidator(_check_zone)]
ServerAddress = Annotated[str, AfterValidator(_check_address)]


class _Table(BaseModel):
    """What all solvers have: an unknown name in a table is an error, and no message repeats a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    zone: Zone = Field(
        "",
        description="Names in and under this domain; the longest zone that covers a name wins, then the order of the"
        " tables; empty: all names",
    )


class HTTP01SolverSettings(_Table):
    """HTTP-01: this service answers on port 80. It can't do wildcards."""

    type: Literal["http-01"] = Field(description="The kind of solver")


class DNSSolverSettings(_Table):
    """What all DNS-01 solvers have."""

    dns_zone: Zone = Field("", description="The zone to write into; empty: found by asking the DNS")
    follow_cname: bool = Field(True, description="Write where a CNAME at `_acme-challenge.<name>` leads to")
    resolvers: tuple[ServerAddress, ...] = Field(
        (),
        description="Resolvers to ask for CNAMEs and zones, as address or address:port; none: the system's",
    )
    check_servers: tuple[ServerAddress, ...] = Field(
        (),
        description="Name servers that must show the record, as address or address:port; none: all of the zone's own",
    )
    propagation_seconds: float = Field(
        120.0, ge=1, le=3600, description="Longest wait until all name servers show the record"
    )
    wait_seconds: float | None = Field(
        None, ge=0, le=3600, description="Wait so long instead of asking the name servers"
    )
    ttl: int = Field(60, ge=1, le=86400, description="Time to live of the record in seconds")


class RFC2136SolverSettings(DNSSolverSettings):
    """Dynamic updates (RFC 2136) signed with TSIG (RFC 8945): BIND, Knot, PowerDNS, Windows and others."""

    type: Literal["rfc2136"] = Field(description="The kind of solver")
    server: Annotated[str, AfterValidator(_check_server)] = Field(
        description="The primary name server, as host or host:port"
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="How updates are sent")
    key_name: str = Field("", max_length=253, description="Name of the TSIG key; empty: updates are not signed")
    key_secret: SecretStr = Field(SecretStr(""), description="The TSIG key, base64")
    key_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1"] = Field(
        "hmac-sha256", description="Algorithm of the TSIG key"
    )

    @model_validator(mode="after")
    def _check(self) -> "RFC2136SolverSettings":
        secret = self.key_secret.get_secret_value()
        if bool(self.key_name) != bool(secret):
            raise ValueError("rfc2136: key_name and key_secret go together")
        try:
            base64.b64decode(secret, validate=True)
        except binascii.Error:
            raise ValueError(
                "rfc2136: key_secret is not base64; copy it from the key file of the name server"
            ) from None
        return self


class Route53SolverSettings(DNSSolverSettings):
    """Amazon Route 53. Needs `pip install certorbit[route53]`."""

    type: Literal["route53"] = Field(description="The kind of solver")
    hosted_zone_id: str = Field(
        "", pattern=r"^[A-Z0-9]{0,32}$", description="Id of the hosted zone; empty: the public one of that name"
    )
    region: str = Field("us-east-1", min_length=1, description="Region that requests are signed for")
    access_key_id: str = Field("", description="Access key; empty: boto3's own search (environment, profile, role)")
    secret_access_key: SecretStr = Field(SecretStr(""), description="Secret of the access key")
    endpoint_url: str = Field("", pattern=r"^(https?://.+)?$", description="Another endpoint than Amazon's")

    @model_validator(mode="after")
    def _check(self) -> "Route53SolverSettings":
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError("route53: access_key_id and secret_access_key go together")
        return self


class LexiconSolverSettings(DNSSolverSettings):
    """One of the providers of dns-lexicon. Needs `pip install certorbit[lexicon]`."""

    type: Literal["lexicon"] = Field(description="The kind of solver")
    provider: str = Field(pattern=r"^[a-z][a-z0-9]*$", description="Lexicon's name of the provider, e.g. `cloudflare`")
    options: dict[str, SecretStr] = Field(
        {}, description="The provider's options as `lexicon <provider> --help` lists them, e.g. `auth_token`"
    )
    timeout_seconds: float = Field(60.0, gt=0, le=600, description="Longest time of one call of the provider")


class WebhookSolverSettings(DNSSolverSettings):
    """An HTTP endpoint of the operator's own that writes the records."""

    type: Literal["webhook"] = Field(description="The kind of solver")
    url: str = Field(pattern=r"^https?://[^/\s?#@]+([/?][^\s#]*)?$", description="Where the requests are posted to")
    secret: SecretStr = Field(min_length=16, description="Shared secret that signs the requests, 16 characters or more")
    timeout_seconds: float = Field(20.0, gt=0, le=300, description="Longest time of one request")


SolverSettings = Annotated[
    HTTP01SolverSettings
    | RFC2136SolverSettings
    | Route53SolverSettings
    | LexiconSolverSettings
    | WebhookSolverSettings,
    Field(discriminator="type"),
]

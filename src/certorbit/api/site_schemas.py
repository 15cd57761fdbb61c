"""Bodies of server groups, regions, links, configuration versions and tools as types (see schemas.py)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from certorbit.model.site import SITE_ID_PATTERN

# Control characters but tab and line ends are in no text that people write; PostgreSQL can't store NUL at all.
_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
_PLAIN = r"^[^\x00-\x1f\x7f]*$"

_Short = Annotated[str, StringConstraints(max_length=250, pattern=_PLAIN, strip_whitespace=True)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=_PLAIN, strip_whitespace=True)]
_Long = Annotated[str, StringConstraints(max_length=4096, pattern=_TEXT, strip_whitespace=True)]
_SiteID = Annotated[str, StringConstraints(pattern=SITE_ID_PATTERN, strip_whitespace=True)]
_ServerName = Annotated[str, StringConstraints(max_length=1024, pattern=_PLAIN)]
_ServerNames = Annotated[list[_ServerName], Field(max_length=1000, fail_fast=True)]
MOST_REGIONS = 500


def _check_size(value: object) -> object:
    """Raise before the items are looked at: a mapping can't give up at its first fault as a list can."""
    if isinstance(value, dict) and len(value) > MOST_REGIONS:
        raise PydanticCustomError("too_long", f"Dictionary should have at most {MOST_REGIONS} items")
    return value


_Regions = Annotated[dict[_Short, _Short], BeforeValidator(_check_size), Field(max_length=MOST_REGIONS)]
Mode = Literal["off", "on", "optional"]


class ServerGroupFields(BaseModel):
    """What a client writes of a server group. Blanks around texts are dropped; fields that aren't known are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: _Short = Field("", description="Empty, or the same as in the path")
    description: _Long = ""
    server_names: _ServerNames | None = Field(None, description="Host names, kept in this order; null is as good as []")
    security_policy: _Short = Field("", description="Kept as given")
    routing_profile: _Short = Field("", description="Kept as given")
    proxy_template: _Short = Field("", description="Kept as given")
    challenge_cookie_domain: _Short = Field("", description="Kept as given")
    ssl_certificate: _Short = Field("", description="Id of a certificate of side server; empty: none")
    client_certificate: _Short = Field("", description="Id of a certificate of side clientCA; empty: none")
    client_certificate_mode: Literal["off", "on", "optional", ""] = Field("off", description="Empty means off")
    mobile_application_group: _Short = Field("", description="Kept as given")


class ServerGroupCreate(ServerGroupFields):
    """The body of POST."""

    name: _Name


class ServerGroupAdd(ServerGroupCreate):
    """The body of POST to the list, which names the new server group itself."""

    id: _SiteID


class ServerGroupChange(ServerGroupFields):
    """The body of PUT. A field that isn't there keeps its value (docs/configurations.md)."""

    name: _Name = Field("", description="Not empty where it is given")


class ServerGroup(BaseModel):
    """A server group."""

    id: str
    name: str
    description: str
    server_names: list[str]
    security_policy: str
    routing_profile: str
    proxy_template: str
    challenge_cookie_domain: str
    ssl_certificate: str
    client_certificate: str
    client_certificate_mode: Mode
    mobile_application_group: str


class ServerGroupList(BaseModel):
    """All server groups of a configuration, `__default__` first, then by id."""

    total: int
    items: list[ServerGroup]


class CertificateUser(BaseModel):
    """A server group that uses a certificate."""

    id: str
    name: str


class CertificateUserList(BaseModel):
    """The server groups that use a certificate."""

    total: int
    items: list[CertificateUser]


class LoadBalancerRegions(BaseModel):
    """The regions of one load balancer."""

    id: str
    name: str
    regions: dict[str, str] = Field(description="By the code of each city: a datacenter, or `automatic`")
    upstream_regions: list[str] = Field(description="The datacenters that may be chosen")


class RegionsBody(BaseModel):
    """Cities, and which datacenter serves them."""

    city_codes: dict[str, str] = Field(description="Name of each city by its code")
    lbs: list[LoadBalancerRegions]


class LoadBalancerRegionsChange(BaseModel):
    """The choices of one load balancer; what isn't named becomes `automatic`."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: _Short
    regions: _Regions | None = Field(None, description="Datacenter or `automatic` by the code of the city")


class RegionsChange(BaseModel):
    """The body of POST to regions. Load balancers that aren't named stay as they are."""

    model_config = ConfigDict(strict=True, extra="ignore")

    lbs: list[LoadBalancerRegionsChange] = Field(max_length=1000, fail_fast=True)


class ChangeSummary(BaseModel):
    """What was changed."""

    kind: Literal["certificate", "attachment", "server-group"]
    id: str
    action: Literal["created", "changed", "deleted"]


class ChangeBody(ChangeSummary):
    """What was changed, from what to what. Never a private key."""

    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ConfigurationVersionBody(BaseModel):
    """A version of a configuration: one change by one request."""

    version: str
    date: str = Field(json_schema_extra={"format": "date-time"})
    by: str = Field(description="Name of the API key; `certorbit` for the service itself")


class ConfigurationVersionSummary(ConfigurationVersionBody):
    """A version as lists show it."""

    changes: list[ChangeSummary]


class ConfigurationVersionList(BaseModel):
    """The newest versions of a configuration, the newest first. `total` counts all that are recorded."""

    total: int
    items: list[ConfigurationVersionSummary]


class ConfigurationVersionWithChanges(ConfigurationVersionBody):
    """One version in full."""

    changes: list[ChangeBody]


class ExtractedPFX(BaseModel):
    """What was in a PKCS#12 store."""

    private_key: str = Field(description="PEM PKCS#8; empty if the store has no key")
    certificate_body: str = Field(description="PEM, leaf first then its chain")

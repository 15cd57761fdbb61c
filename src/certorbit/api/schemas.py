"""Bodies as types: what clients send is checked against these; what we answer is documented by them.

Answers are rendered from plain values (`certificates.py` …) and compared with these types in the tests; validating
our own output at run time costs more than all the rest of a list.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from certorbit.model.access import Role

# Control characters are in no ARN, link or region; PostgreSQL can't store NUL in text at all.
_PLAIN = r"^[^\x00-\x1f\x7f]*$"
# Every list and mapping of a request is bounded and gives up at its first fault: each fault is an object that costs
# hundreds of bytes and microseconds, so a megabyte of them would stop the service for seconds.
MOST_LINKS = 200  # copies of one certificate at providers
MOST_CRLS = 256  # one of each CA of a bundle
MOST_IGNORED = 10_000  # of what our own answers list, and clients send back


class ProviderLink(BaseModel):
    """Where a provider keeps a copy."""

    model_config = ConfigDict(strict=True)

    link: Annotated[str, StringConstraints(max_length=2048, pattern=_PLAIN)] = Field(
        description="An ARN, a self link, a URL"
    )
    provider: Annotated[str, StringConstraints(max_length=255, pattern=_PLAIN)]
    region: Annotated[str, StringConstraints(max_length=255, pattern=_PLAIN)]


class CertificateCreate(BaseModel):
    """The body of POST. Every field is optional.

    What the service derives from the certificate itself is accepted and ignored; so are fields that it doesn't know.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    provider_links: list[ProviderLink] = Field(
        [], max_length=MOST_LINKS, fail_fast=True, description="Copies that exist already"
    )
    cert_body: str = Field("", description="PEM: the leaf and its chain in any order, or a bundle of CA certificates")
    expires: str = Field("", description="Ignored")
    id: str = Field("", description="Empty, or the same as in the path")
    issuer: str = Field("", description="Ignored")
    le_auto_renew: bool = True
    le_auto_replace: bool = True
    le_hash: str = Field("", description="Ignored")
    private_key: str = Field("", description="PEM: PKCS#8, PKCS#1 or SEC1, unencrypted")
    san: list[str] = Field([], max_length=MOST_IGNORED, fail_fast=True, description="Ignored")
    subject: str = Field("", description="Ignored")
    uploaded: str = Field("", description="Ignored")
    revoked: bool = Field(False, description="Ignored")
    crl: list[str] = Field(
        [], max_length=MOST_CRLS, fail_fast=True, description="For a CA side: PEM CRLs that clients are checked against"
    )
    cdp: list[str] = Field([], max_length=MOST_IGNORED, fail_fast=True, description="Ignored")
    side: str = Field("server", description="server, client (= clientCA), clientCA, serverToBackendMTLS, backendCA")


class Certificate(BaseModel):
    """A certificate: the fields of the seed."""

    cert_body: str = Field(description="PEM, leaf first then its chain; empty until issued")
    expires: str | None = Field(
        description="notAfter of the leaf (UTC); null until issued", json_schema_extra={"format": "date"}
    )
    id: str
    issuer: str
    le_auto_renew: bool
    le_auto_replace: bool
    le_hash: str
    private_key: str = Field(description="PEM PKCS#8; empty where the caller may not export keys or there is none")
    san: list[str]
    subject: str
    uploaded: str = Field(json_schema_extra={"format": "date-time"})
    revoked: bool
    crl: list[str]
    cdp: list[str]
    side: Literal["server", "client", "clientCA", "serverToBackendMTLS", "backendCA"]


class LinkedCertificate(Certificate):
    """A certificate with the places of its copies."""

    links: list[ProviderLink]


class NamedCertificate(LinkedCertificate):
    """A certificate as the older and the current revision give it."""

    name: str = Field(description="The same as `id`")


class CertificateList(BaseModel):
    """All certificates of a configuration, `placeholder` first, then by id."""

    total: int
    items: list[Certificate]


class NamedCertificateList(BaseModel):
    """All certificates of a configuration, `placeholder` first, then by id."""

    total: int
    items: list[NamedCertificate]


class Configuration(BaseModel):
    """A configuration. `version` counts its changes; `date` is the last one's."""

    id: str
    description: str
    version: str
    date: str = Field(json_schema_extra={"format": "date-time"})


class ConfigurationList(BaseModel):
    """All configurations."""

    total: int
    items: list[Configuration]


class MessageBody(BaseModel):
    """A sentence."""

    message: str


class ErrorBody(BaseModel):
    """An error: the HTTP status, and what was wrong, which input, what to do."""

    code: int
    message: str


class UnavailableBody(BaseModel):
    """503: try again with backoff."""

    code: int
    message: str
    detail: str
    data: MessageBody


class ValidationItem(BaseModel):
    """One input that is not of its type."""

    loc: list[str | int]
    msg: str
    type: str


class ValidationBody(BaseModel):
    """422: what is malformed, and where."""

    detail: list[ValidationItem]


_Configurations = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_PLAIN)]],
    Field(
        max_length=50,
        fail_fast=True,
        description="Those that the key is for; none: all, and what belongs to no single one",
    ),
]
_Addresses = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_PLAIN)]],
    Field(max_length=50, fail_fast=True, description="Networks in CIDR form that it may be used from; none: any"),
]
_EndsAt = Annotated[AwareDatetime | None, Field(strict=False, description="When it ends; null: never")]


class APIKeyCreate(BaseModel):
    """The body of POST to API keys."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_PLAIN)]
    role: Annotated[Role, Field(strict=False)] = Role.VIEWER
    may_export_keys: bool = False
    configurations: _Configurations = []
    allowed_addresses: _Addresses = []
    expires_at: _EndsAt = None


class APIKeyChange(BaseModel):
    """The body of PATCH to an API key: the fields that are to change."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_PLAIN)] = ""
    role: Annotated[Role, Field(strict=False)] = Role.VIEWER
    may_export_keys: bool = False
    configurations: _Configurations = []
    allowed_addresses: _Addresses = []
    expires_at: _EndsAt = None


class APIKeyRotation(BaseModel):
    """The body of POST to an API key's rotation; it may be left out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    overlap_hours: Annotated[int, Field(ge=0, le=720, description="How long the secret before still works")] = 24


class APIKeyBody(BaseModel):
    """An API key's record, never the key."""

    id: str
    name: str
    prefix: str = Field(description="How the key begins; empty for one that an operator made up")
    role: Role
    may_export_keys: bool
    configurations: list[str]
    allowed_addresses: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    rotated_at: str | None
    previous_ends_at: str | None = Field(description="Until when the secret before the last rotation works")
    last_used_at: str | None = Field(description="To the minute")
    last_used_from: str


class NewAPIKeyBody(APIKeyBody):
    """The answer that creates or rotates a key: the only time that its secret is shown."""

    key: str


class APIKeyList(BaseModel):
    """All API keys, oldest first, revoked ones included."""

    total: int
    items: list[APIKeyBody]
    next_cursor: str | None


class MaintenanceChange(BaseModel):
    """The body of POST to the maintenance mode."""

    model_config = ConfigDict(strict=True, extra="forbid")

    on: bool = Field(description="Whether every write is refused from now on")


class MaintenanceBody(BaseModel):
    """The maintenance mode."""

    on: bool
    is_forced: bool = Field(description="The setting keeps it on, whatever was switched here")
    since: str | None = Field(description="When it was switched last; null: never")
    by: str = Field(description="By the key of this name")


class IssuerBody(BaseModel):
    """An issuer of the settings."""

    name: str
    type: Literal["acme", "internal"]
    directory: str
    can_issue_wildcards: bool


class IssuerList(BaseModel):
    """The issuers in order of preference."""

    total: int
    items: list[IssuerBody]
    next_cursor: str | None


class Subproblem(BaseModel):
    """What the CA says of one identifier (RFC 8555 §6.7.1)."""

    identifier: str
    detail: str


class ProblemBody(BaseModel):
    """Why the last attempt failed, in the CA's own words."""

    message: str
    type: str
    detail: str
    subproblems: list[Subproblem]
    retry: str
    retry_at: str | None


class OperationBody(BaseModel):
    """An operation: the issuance of one certificate, with all its attempts."""

    id: str
    kind: str
    config: str
    entry: str
    identifiers: list[str]
    state: str
    attempt: int
    promised: bool
    issuer: str
    created_at: str
    updated_at: str
    finished_at: str | None
    next_attempt_at: str | None
    problem: ProblemBody | None


class StepBody(BaseModel):
    """A finished step of an attempt."""

    attempt: int
    name: str
    started_at: str | None
    finished_at: str | None
    outcome: dict[str, object]


class OperationWithSteps(OperationBody):
    """An operation with its steps in order."""

    steps: list[StepBody]


class OperationList(BaseModel):
    """A page of operations, newest first. `next_cursor` gives the next page; null at the end."""

    total: int
    items: list[OperationBody]
    next_cursor: str | None

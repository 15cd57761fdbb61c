"""Bodies of load balancers, targets and deployments as types (see schemas.py)."""

from datetime import datetime

from pydantic import BaseModel, Field

from certorbit.api.schemas import ProblemBody


class LoadBalancer(BaseModel):
    """A listener of a load balancer (contract.md: one item per listener)."""

    name: str
    provider: str = Field(description="aws, gcp or link11")
    region: str
    dns_name: str
    listener_name: str
    listener_port: int
    load_balancer_type: str = Field(description="application, network, classic, haproxy, nginx, envoy, ...")
    max_certificates: int = Field(description="How many certificates it takes beside its default")
    default_certificate: str = Field(description="Link of the default certificate's copy")
    certificates: list[str] = Field(description="Links of all copies; the last path segment is or ends in the id")


class LoadBalancerList(BaseModel):
    total: int
    items: list[LoadBalancer]


class TargetBody(BaseModel):
    """One `[[targets]]` table, without its secrets."""

    name: str
    type: str
    provider: str
    configurations: list[str]
    listeners: int | None = Field(description="How many there were when it was seen last; null: it never was")
    seen_at: datetime | None = Field(description="When it answered last")
    unseen_since: datetime | None = Field(description="Since when it has not been seen; null: the last look saw it")
    problem: ProblemBody | None = Field(description="Why the last look did not see it")


class TargetList(BaseModel):
    total: int
    items: list[TargetBody]


class FindingBody(BaseModel):
    what: str
    grade: str = Field(description="ok, warning or failed")
    message: str


class CheckBody(BaseModel):
    """What a check of a target found."""

    target: str
    ok: bool
    findings: list[FindingBody]


class HandshakeBody(BaseModel):
    address: str
    port: int
    server_name: str
    fingerprint: str = Field(description="SHA-256 of the leaf that was served")
    error: str


class ProofBody(BaseModel):
    """What handshakes with a listener showed."""

    at: datetime
    is_served: bool
    message: str
    handshakes: list[HandshakeBody]


class ListenerName(BaseModel):
    target: str
    region: str
    load_balancer: str
    listener: str
    port: int


class ListenerRollout(BaseModel):
    """One listener's part of a deployment."""

    listener: ListenerName
    is_default: bool
    from_version: str | None
    to_version: str | None = Field(description="null: the certificate is taken off")
    stage: str
    updated_at: datetime
    proof: ProofBody | None
    problem: ProblemBody | None


class AttachmentBody(BaseModel):
    """A certificate on a listener: what is wanted, and what was proven last."""

    listener: ListenerName
    is_default: bool
    wanted: str
    stage: str
    version: str | None
    proof: ProofBody | None
    problem: ProblemBody | None
    unseen_since: datetime | None = Field(
        description="Since when the listener's target has not been seen: all else is from before. null: it was"
    )
    unseen_problem: ProblemBody | None = Field(description="Why the last look did not see the target")


class DeploymentBody(BaseModel):
    """A deployment: an operation of kind deploy with its listeners."""

    id: str
    config: str
    entry: str
    state: str
    attempt: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    next_attempt_at: datetime | None
    problem: ProblemBody | None
    listeners: list[ListenerRollout]


class DeploymentList(BaseModel):
    total: int
    items: list[DeploymentBody]
    next_cursor: str | None


class CertificateDeployments(BaseModel):
    total: int
    items: list[DeploymentBody]
    attachments: list[AttachmentBody]


class DeploymentStarted(BaseModel):
    operation: str | None = Field(description="null: the certificate is attached nowhere, or not issued yet")

"""Bodies of the operator's commands, as types (see `schemas.py`): renewals, versions, revocation, the forecast."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from certorbit.api.schemas import ProblemBody
from certorbit.model.limits import RuleName
from certorbit.model.next_version import Obstacle
from certorbit.model.revocation import RevocationReason

_IssuerName = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]


class RenewalRequest(BaseModel):
    """The body of POST …/renew. It may be left out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    issuer: _IssuerName = Field("", description="Who is asked this time; empty: whose turn it is")


class RenewalChange(BaseModel):
    """The body of PATCH …/renewal. What is left out, or null, stays as it is."""

    model_config = ConfigDict(strict=True, extra="forbid")

    paused: bool | None = Field(None, description="Stop the automatic renewal, or let it go on")
    issuer: _IssuerName | None = Field(None, description="Who issues for this certificate; empty: the first issuer")


class RevocationRequest(BaseModel):
    """The body of POST …/revoke."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: Annotated[RevocationReason, Field(strict=False)] = Field(
        description="RFC 5280 §5.3.1: 0 unspecified, 1 keyCompromise, 3 affiliationChanged, 4 superseded,"
        " 5 cessationOfOperation"
    )
    version: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = Field(
        None, description="Which version; null: the current one. Name it: then a repeated request is harmless"
    )


class StartedOperation(BaseModel):
    """What was started; `GET …/operations/{id}` tells how it goes."""

    operation: str


class CancelledOperation(BaseModel):
    """What became of a cancelled operation, and of its certificate."""

    operation: str
    state: str
    entry_deleted: bool
    message: str


class RenewalInfoBody(BaseModel):
    """What the CA said of the current version (ARI, RFC 9773). Without a window its instants are null."""

    start: str | None
    end: str | None
    chosen_at: str | None = Field(description="Our random instant in the window")
    explanation_url: str
    checked_at: str
    next_check_at: str
    problem: str = Field(description="Why the last question gave no answer; empty: it did")


class UnfinishedOperation(BaseModel):
    """The operation that is to give the certificate its next version."""

    id: str
    state: str
    attempt: int = Field(description="How many there were up to now")
    next_attempt_at: str | None = Field(description="When it waits: the next attempt's time")
    problem: ProblemBody | None = Field(description="Why the last attempt failed")


class RenewalBody(BaseModel):
    """How a certificate's renewal stands."""

    automatic: bool = Field(description="Whether it gets its next version by itself")
    obstacle: Obstacle | None = Field(description="Why it does not; null: it does")
    explanation: str = Field(description="The obstacle in a sentence, and what helps; empty: there is none")
    revoked: bool = Field(description="The current version is known to be revoked")
    renew_at: str | None = Field(description="When it is due; null: undecided, or never")
    reason: str = Field(description="Why then: ari, ari-urgent, fraction, maintenance, emergency, expired")
    look_at: str | None = Field(description="When the sweep looks at it next; null: never")
    paused: bool
    issuer: str = Field(description="The issuer that an operator chose; empty: the first one")
    ari: RenewalInfoBody | None
    not_after: str | None = Field(description="When the current version ends; null until there is one")
    operation: UnfinishedOperation | None


class RevocationBody(BaseModel):
    """The CA has revoked the version."""

    revoked: Literal[True]
    version: str
    operation: str | None = Field(description="What gives the certificate its next version; null: nothing was started")


class VersionBody(BaseModel):
    """A version: what was served at one time. Its private key is never shown here."""

    id: str
    created_at: str
    source: str
    issuer: str = Field(description="The issuer (settings) that made it; empty for uploads")
    issuer_subject: str
    subject: str
    san: list[str]
    not_before: str
    not_after: str
    serial: str
    fingerprint: str
    key_algorithm: str
    is_current: bool
    revoked: bool = Field(description="Its CA is known to have revoked it")


class VersionList(BaseModel):
    """All versions, the newest first."""

    total: int
    items: list[VersionBody]
    next_cursor: str | None


class ChangeBody(BaseModel):
    """One fact that differs."""

    field: str
    before: str | int
    after: str | int


class ComparisonBody(BaseModel):
    """What the second version has other than the first one."""

    before: str
    after: str
    names_added: list[str]
    names_removed: list[str]
    changes: list[ChangeBody]


class RollbackRequest(BaseModel):
    """The body of POST …/rollback. It may be left out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    force: bool = Field(False, description="Also if the version is revoked")


class RollbackBody(BaseModel):
    """The version that is current now."""

    message: str
    version: VersionBody


class PlannedBody(BaseModel):
    """A renewal to come."""

    config: str
    entry: str
    identifiers: list[str]
    issuer: str
    renew_at: str
    reason: str
    expected_at: str = Field(description="When the CA's limits let it through; the same as `renew_at` if none holds it")


class DayBody(BaseModel):
    """How many renewals are expected on a day (UTC)."""

    date: str
    count: int


class IssuerForecast(BaseModel):
    """What one issuer will have to do."""

    issuer: str
    directory: str
    total: int
    days: list[DayBody]


class HeldBackBody(BaseModel):
    """A renewal that has to wait for a CA's limit."""

    config: str
    entry: str
    issuer: str
    renew_at: str
    expected_at: str
    rule: RuleName
    message: str


class UnrenewedBody(BaseModel):
    """A certificate that ends by then, or has ended, and that nothing renews."""

    config: str
    entry: str
    identifiers: list[str]
    not_after: str
    obstacle: Obstacle
    explanation: str


class ForecastBody(BaseModel):
    """What would be renewed, by whom, and against which limits, and what nothing renews."""

    until: str
    total: int
    is_complete: bool = Field(description="False: there is more than `limit` certificates or 10,000 renewals")
    items: list[PlannedBody]
    issuers: list[IssuerForecast]
    held_back: list[HeldBackBody]
    unrenewed: list[UnrenewedBody] = Field(description="What ends by then and is not renewed, the earliest first")

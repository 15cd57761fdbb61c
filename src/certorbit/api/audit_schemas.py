"""Bodies of the audit trail, as types (see `schemas.py`)."""

from typing import Any

from pydantic import BaseModel, Field


class AuditActor(BaseModel):
    """Who did it."""

    kind: str = Field(description="api-key, service, command, stranger")
    name: str = Field(description="The key's name then; `certorbit` for the service; the machine's user for a command")
    key_id: str
    role: str


class AuditRequest(BaseModel):
    """By which request."""

    id: str = Field(description="X-Request-Id of the answer, request_id in the log")
    method: str
    route: str = Field(description="The route's template, or the command")


class AuditChange(BaseModel):
    """One thing before and after; null: it wasn't there, or isn't any more."""

    kind: str
    id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditRecordBody(BaseModel):
    """A record of the audit trail."""

    number: int | None = Field(description="In the chain; null until it is sealed, within seconds")
    previous: str | None = Field(description="Hash of the record before it")
    hash: str | None = Field(description="SHA-256 of the record's canonical JSON without this member")
    at: str
    who: AuditActor
    address: str
    request: AuditRequest
    action: str
    config: str
    objects: list[str]
    operation: str
    changes: list[AuditChange]
    details: dict[str, Any]


class AuditList(BaseModel):
    """A page of records, the newest first."""

    total: int
    items: list[AuditRecordBody]
    next_cursor: str | None


class AuditPoint(BaseModel):
    """A record's number and hash."""

    number: int
    hash: str


class AuditHead(BaseModel):
    """The chain's ends."""

    head: AuditPoint = Field(description="The newest record: note it elsewhere, and check against it later")
    anchor: AuditPoint = Field(description="The last record that retention has deleted; 0 and zeroes: none")

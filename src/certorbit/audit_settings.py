"""`[audit]`: how long the audit trail is kept."""

from pydantic import BaseModel, ConfigDict, Field


class AuditSettings(BaseModel):
    """`[audit]` (docs/audit.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention_days: int = Field(
        400,
        ge=0,
        le=36_500,
        description="Days after which records of the audit trail are deleted, the oldest first; the chain goes on from"
        " the last one deleted. 400: a year and the time to look at it. 0: they are kept for ever",
    )

"""`[revocation]`: how it is found out that a certificate is revoked."""

from pydantic import BaseModel, ConfigDict, Field


class RevocationSettings(BaseModel):
    """`[revocation]` (docs/revocation.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: bool = Field(
        True,
        description="Download the revocation lists that certificates name; off: `revoked` is told for the built-in CA's"
        " certificates only",
    )
    refresh_hours: float = Field(
        6.0,
        ge=0.1,
        le=168,
        description="Hours after which a list is asked for again although it is still valid: CAs publish a revocation"
        " within a day, long before the list before it ends. Nothing is sent if it hasn't changed",
    )
    most_mebibytes: int = Field(10, ge=1, le=100, description="Largest revocation list that is taken, in MiB")

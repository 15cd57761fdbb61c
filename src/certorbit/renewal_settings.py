"""`[renewal]`: when certificates are renewed, as settings. `model/renewal.py` turns them into rules."""

from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

CLOCK_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


class WindowSettings(BaseModel):
    """One `[[renewal.windows]]` table: hours in which certificates may be renewed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        min_length=1, description='Days on which the window opens, for example `["sat", "sun"]`'
    )
    opens: str = Field(
        alias="from", pattern=CLOCK_PATTERN, description="Time at which it opens, by the clock of the time zone"
    )
    closes: str = Field(
        alias="to",
        pattern=CLOCK_PATTERN,
        description="Time at which it closes; not after `from` means on the next day, the same time 24 hours later",
    )
    time_zone: str = Field("UTC", description="IANA name such as `Europe/Berlin`; summer time is followed")

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a directory of zones
            raise ValueError(
                f"{value[:60]!r} is no time zone that this machine knows; use an IANA name such as Europe/Berlin"
            ) from error
        return value


class RenewalSettings(BaseModel):
    """`[renewal]`: when certificates are renewed (docs/renewal.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fraction: float = Field(
        1 / 3,
        gt=0,
        le=0.8,
        description="Renew when this part of the lifetime is left, if the CA has no say (ARI); a third is what Let's"
        " Encrypt's integration guide asks for",
    )
    short_fraction: float = Field(
        1 / 2, gt=0, le=0.8, description="The same for short-lived certificates; a half, from the same guide"
    )
    short_lifetime_days: float = Field(
        10.0, ge=0, le=397, description="A certificate with a shorter lifetime is short-lived; from the same guide"
    )
    emergency_fraction: float = Field(
        1 / 20,
        gt=0,
        le=0.5,
        description="With no more than this part of the lifetime left a certificate is renewed at once, whatever ARI"
        " and the maintenance windows say; less than the two fractions. CertMagic's number",
    )
    spread: float = Field(
        0.02,
        ge=0,
        le=0.1,
        description="Without ARI: each certificate is due up to this part of its lifetime earlier, so that those"
        " issued together are not renewed together; 0.02 is the width of Let's Encrypt's own windows",
    )
    windows: tuple[WindowSettings, ...] = Field(
        (), description="Maintenance windows, `[[renewal.windows]]`; renewals wait for them, but for an emergency"
    )

    @model_validator(mode="after")
    def _check(self) -> "RenewalSettings":
        if self.emergency_fraction >= min(self.fraction, self.short_fraction):
            raise ValueError("renewal: emergency_fraction must be less than fraction and short_fraction")
        return self

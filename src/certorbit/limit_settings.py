"""`[limits]`: what CAs allow in which time, as settings. `model/ca_limits.py` turns them into rules."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

UNLIMITED = "none"
_RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,3})([smhd])")
_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
LimitName = Literal[
    "orders_per_account",
    "certificates_per_domain",
    "certificates_per_set",
    "failed_authorizations",
    "consecutive_failures",
]
# Whom an override can be for; CAs grant none for the other limits.
_HAS_SUBJECT = {"orders_per_account", "certificates_per_domain"}


def parse_rate(text: str) -> tuple[int, timedelta] | None:
    """Return count and period of `50/7d` (units s, m, h, d); None for `none`.

    Raises:
        ValueError: it is neither.
    """
    if text == UNLIMITED:
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no limit; write a count and a period as 50/7d (units s, m, h, d), or none")
    count, number, unit = match.groups()
    return int(count), int(number) * _UNITS[unit]


def _check_rate(text: str) -> str:
    parse_rate(text)
    return text


Rate = Annotated[str, AfterValidator(_check_rate)]


class LimitOverride(BaseModel):
    """One `[[limits.overrides]]` table: what a CA allows you that differs from the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: str = Field(min_length=1, description="The ACME directory URL of the CA, as in `[[issuers]]`")
    limit: LimitName = Field(description="Which limit")
    value: Rate = Field(description="Count and period, for example `500/7d` (units s, m, h, d), or `none`")
    subject: str = Field(
        "",
        description="For whom alone: an issuer's name (`orders_per_account`) or a registered domain"
        " (`certificates_per_domain`); empty: for all",
    )

    @model_validator(mode="after")
    def _check(self) -> "LimitOverride":
        if self.subject and self.limit not in _HAS_SUBJECT:
            raise ValueError(f"limits.overrides: {self.limit} has no subject of its own; leave subject out")
        return self


class LimitsSettings(BaseModel):
    """`[limits]`: the limits that are kept before the CA enforces them (docs/limits.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="Keep the limits below; off: only what a CA refuses is waited for")
    orders_per_account: Rate = Field(
        "300/3h",
        description="Let's Encrypt: new orders per account (letsencrypt.org/docs/rate-limits, 2026-08-05)",
    )
    certificates_per_domain: Rate = Field(
        "50/7d",
        description="Let's Encrypt: certificates per registered domain, IPv4 address or IPv6 /64, over all accounts"
        " (same page)",
    )
    certificates_per_set: Rate = Field(
        "5/7d",
        description="Let's Encrypt: certificates for exactly the same names, over all accounts (same page)",
    )
    failed_authorizations: Rate = Field(
        "5/1h", description="Let's Encrypt: failed authorizations per name and account (same page)"
    )
    consecutive_failures: Rate = Field(
        "1152/1152d",
        description="Let's Encrypt: failed authorizations in a row per name and account, after which the CA pauses"
        " the name; one is forgiven per day, all by a success (same page)",
    )
    staging_orders_per_account: Rate = Field(
        "1500/3h",
        description="Let's Encrypt staging: new orders per account (letsencrypt.org/docs/staging-environment,"
        " 2026-08-05)",
    )
    staging_certificates_per_domain: Rate = Field(
        "30000/1s", description="Let's Encrypt staging: certificates per registered domain (same page)"
    )
    staging_certificates_per_set: Rate = Field(
        "30000/7d", description="Let's Encrypt staging: certificates for exactly the same names (same page)"
    )
    staging_failed_authorizations: Rate = Field(
        "200/1h", description="Let's Encrypt staging: failed authorizations per name and account (same page)"
    )
    overrides: tuple[LimitOverride, ...] = Field(
        (),
        description="`[[limits.overrides]]`: what a CA granted you, and the limits of other CAs, which have none"
        " by default",
    )

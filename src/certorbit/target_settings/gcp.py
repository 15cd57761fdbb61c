"""Settings of GCP targets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from certorbit.target_settings.table import TargetTable
from certorbit.web_address import check_web_address


class GCPTargetSettings(TargetTable):
    """Google Cloud: certificates of target proxies, or Certificate Manager."""

    type: Literal["gcp"] = Field(description="The kind of target")
    project: str = Field(pattern=r"^[a-z][a-z0-9.:-]{4,61}[a-z0-9]$", description="Id of the project (not its number)")
    mode: Literal["classic", "manager"] = Field(
        "classic",
        description="`classic`: SSL certificates of target HTTPS and SSL proxies; `manager`: Certificate Manager",
    )
    region: str = Field(
        "global", pattern=r"^[a-z][a-z0-9-]{1,62}$", description="`global`, or the region of regional load balancers"
    )
    credentials_file: Path | None = Field(
        None, description="Key file of a service account; left out: the environment's own credentials"
    )
    token: SecretStr | None = Field(None, description="A ready access token, for emulators; it is never renewed")
    owner: str = Field(
        "certorbit",
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="What copies are marked with; another word for each Certorbit that works in this project",
    )
    operation_seconds: float = Field(300.0, gt=0, le=3600, description="Longest wait for one of Google's operations")
    endpoint_url: Annotated[str, AfterValidator(check_web_address)] = Field(
        "", description="Where all Google APIs are asked instead, for emulators"
    )

    @model_validator(mode="after")
    def _check(self) -> "GCPTargetSettings":
        if self.token is not None and self.credentials_file is not None:
            raise ValueError(f"target {self.name!r}: give token or credentials_file, not both")
        if self.mode == "manager" and self.region != "global":
            raise ValueError(f"target {self.name!r}: certificate maps are global; leave region out in mode manager")
        return self

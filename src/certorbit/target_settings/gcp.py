"""Settings of GCP targets."""

from typing import Literal

from pydantic import Field

from certorbit.target_settings.table import TargetTable


class GCPTargetSettings(TargetTable):
    """GCP."""

    type: Literal["gcp"] = Field(description="The kind of target")

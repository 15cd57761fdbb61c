"""Settings of AWS targets."""

from typing import Literal

from pydantic import Field

from certorbit.target_settings.table import TargetTable


class AWSTargetSettings(TargetTable):
    """AWS."""

    type: Literal["aws"] = Field(description="The kind of target")

"""Settings of envoy targets."""

from typing import Literal

from pydantic import Field

from certorbit.target_settings.table import WithListeners


class EnvoyTargetSettings(WithListeners):
    """Envoy."""

    type: Literal["envoy"] = Field(description="The kind of target")

"""Settings of nginx targets."""

from typing import Literal

from pydantic import Field

from certorbit.target_settings.table import WithListeners


class NginxTargetSettings(WithListeners):
    """Nginx."""

    type: Literal["nginx"] = Field(description="The kind of target")

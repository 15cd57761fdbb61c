"""Settings of HAProxy targets."""

from typing import Literal

from pydantic import Field

from certorbit.target_settings.table import WithListeners


class HAProxyTargetSettings(WithListeners):
    """HAProxy 2.4 and newer, by its runtime API."""

    type: Literal["haproxy"] = Field(description="The kind of target")

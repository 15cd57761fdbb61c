"""Settings of webhook targets."""

from typing import Literal

from pydantic import Field

from certorbit.target_settings.table import WithListeners


class WebhookTargetSettings(WithListeners):
    """Webhook."""

    type: Literal["webhook"] = Field(description="The kind of target")

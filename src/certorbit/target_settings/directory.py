"""Settings of directory targets."""

from typing import Literal

from pydantic import Field

from certorbit.target_settings.table import WithListeners


class DirectoryTargetSettings(WithListeners):
    """Directory."""

    type: Literal["directory"] = Field(description="The kind of target")

"""Settings of Kubernetes targets."""

from typing import Literal

from pydantic import Field

from certorbit.target_settings.table import TargetTable


class KubernetesTargetSettings(TargetTable):
    """Kubernetes."""

    type: Literal["kubernetes"] = Field(description="The kind of target")

"""The `[[targets]]` tables: one class per type, each in a file of its own. Adding a type is one file and one line."""

from typing import Annotated

from pydantic import Field

from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.target_settings.directory import DirectoryTargetSettings
from certorbit.target_settings.envoy import EnvoyTargetSettings
from certorbit.target_settings.gcp import GCPTargetSettings
from certorbit.target_settings.haproxy import HAProxyTargetSettings
from certorbit.target_settings.kubernetes import KubernetesTargetSettings
from certorbit.target_settings.nginx import NginxTargetSettings
from certorbit.target_settings.webhook import WebhookTargetSettings

TargetSettings = Annotated[
    AWSTargetSettings
    | DirectoryTargetSettings
    | EnvoyTargetSettings
    | GCPTargetSettings
    | HAProxyTargetSettings
    | KubernetesTargetSettings
    | NginxTargetSettings
    | WebhookTargetSettings,
    Field(discriminator="type"),
]

__all__ = [
    "AWSTargetSettings",
    "DirectoryTargetSettings",
    "EnvoyTargetSettings",
    "GCPTargetSettings",
    "HAProxyTargetSettings",
    "KubernetesTargetSettings",
    "NginxTargetSettings",
    "TargetSettings",
    "WebhookTargetSettings",
]

"""Kubernetes: TLS Secrets that an Ingress or a Gateway refers to, by the cluster's REST API."""

from certorbit.ports.target import Target
from certorbit.target_settings import KubernetesTargetSettings
from certorbit.targets.kubernetes.rest import KubernetesClient
from certorbit.targets.kubernetes.target import KubernetesTarget
from certorbit.targets.registry import TargetParts


def make(settings: KubernetesTargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table."""
    return KubernetesTarget(settings, KubernetesClient(settings, clock=parts.clock, chance=parts.chance))

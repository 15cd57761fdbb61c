"""Google Cloud: SSL certificates on target proxies, and Certificate Manager, by their REST APIs."""

from certorbit.ports.target import Target
from certorbit.target_settings import GCPTargetSettings
from certorbit.targets.gcp.certificate_manager import ManagerTarget
from certorbit.targets.gcp.classic import ClassicTarget
from certorbit.targets.gcp.rest import RestClient
from certorbit.targets.registry import TargetParts


def make(settings: GCPTargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table; `mode` says which."""
    client = RestClient(settings, clock=parts.clock, chance=parts.chance)
    return ManagerTarget(settings, client) if settings.mode == "manager" else ClassicTarget(settings, client)

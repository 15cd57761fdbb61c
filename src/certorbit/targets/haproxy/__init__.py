"""HAProxy 2.4 and newer: certificates by its runtime API, and the same in files for its next start.

Called by `targets.registry` alone. docs/targets/haproxy.md is the operator's page.
"""

from certorbit.target_settings.haproxy import HAProxyTargetSettings
from certorbit.targets.haproxy.target import HAProxyTarget
from certorbit.targets.registry import TargetParts

__all__ = ["make"]


def make(settings: HAProxyTargetSettings, parts: TargetParts) -> HAProxyTarget:
    return HAProxyTarget(settings, clock=parts.clock, chance=parts.chance)

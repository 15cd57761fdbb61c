"""nginx: an include file per listener that maps the names clients ask for to PEM files; docs/targets/nginx.md."""

from certorbit.ports.target import Target
from certorbit.target_settings.nginx import NginxTargetSettings
from certorbit.targets.nginx.layout import NginxLayout
from certorbit.targets.nginx.reload import NginxReload
from certorbit.targets.nginx.target import NginxTarget
from certorbit.targets.registry import TargetParts

__all__ = ["make"]


def make(settings: NginxTargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table."""
    return NginxTarget(
        settings, layout=NginxLayout(settings), reload=NginxReload(settings, clock=parts.clock), clock=parts.clock
    )

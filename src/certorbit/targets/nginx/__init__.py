"""nginx: an include file per listener that maps the names clients ask for to PEM files; docs/targets/nginx.md."""

from certorbit.ports.target import Target
from certorbit.target_settings.nginx import NginxTargetSettings
from certorbit.targets.file_target import FileTarget
from certorbit.targets.nginx.layout import NginxLayout
from certorbit.targets.nginx.reload import NginxReload
from certorbit.targets.registry import TargetParts

__all__ = ["make"]


def make(settings: NginxTargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table."""
    rooms = [(table, table.max_certificates if table.sni else 0) for table in settings.listeners]
    reload = NginxReload(settings, clock=parts.clock)
    return FileTarget(
        settings, rooms, kind=settings.type, layout=NginxLayout(settings), activation=reload, clock=parts.clock
    )

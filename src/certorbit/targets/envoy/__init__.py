"""Envoy: certificates for its listeners by our own SDS server, or by files that it watches.

`EnvoyTarget` (target.py) decides what listeners hold and keeps it on a shelf; an outlet brings it to the proxies:
`SDSServer` (server.py, binding.py, session.py, answers.py, messages.py, credentials.py) or `WatchedFiles` (files.py,
with `FileShelf` in file_shelf.py). What goes where is in catalog.py for certificates, in clients.py for client checks.
"""

from certorbit.ports.target import Target
from certorbit.target_settings import EnvoyTargetSettings
from certorbit.targets.envoy.file_shelf import FileShelf
from certorbit.targets.envoy.files import WatchedFiles
from certorbit.targets.envoy.server import SDSServer
from certorbit.targets.envoy.target import EnvoyTarget
from certorbit.targets.registry import TargetParts


def make(settings: EnvoyTargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table. Nothing is opened or read before its first call."""
    if settings.mode == "files":
        return EnvoyTarget(
            settings,
            shelf=FileShelf(settings),
            outlet=WatchedFiles(settings, clock=parts.clock),
            watches=False,
            clock=parts.clock,
            chance=parts.chance,
        )
    return EnvoyTarget(
        settings,
        shelf=parts.shelf,
        outlet=SDSServer(settings, clock=parts.clock),
        watches=True,
        clock=parts.clock,
        chance=parts.chance,
    )

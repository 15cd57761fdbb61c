"""PEM files in a folder, a manifest that says what is there, and a command after; docs/targets/directory.md."""

from certorbit.ports.target import Target
from certorbit.target_settings.directory import DirectoryTargetSettings
from certorbit.targets.directory.after import CommandAfter
from certorbit.targets.directory.layout import DirectoryLayout
from certorbit.targets.file_target import FileTarget
from certorbit.targets.registry import TargetParts

__all__ = ["make"]


def make(settings: DirectoryTargetSettings, parts: TargetParts) -> Target:
    """Return the target of a table."""
    rooms = [(table, table.max_certificates) for table in settings.listeners]
    layout = DirectoryLayout(settings)
    return FileTarget(
        settings, rooms, kind=settings.type, layout=layout, activation=CommandAfter(settings), clock=parts.clock
    )

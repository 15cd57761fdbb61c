"""The targets of the settings, in their order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from certorbit.clock import Chance, Clock
from certorbit.ports.target import PlacedTarget, QuotaLedger, Shelf, Startable
from certorbit.target_settings import TargetSettings
from certorbit.targets.registry import TargetParts, make_target


@dataclass(frozen=True, slots=True)
class Targets:
    """by_name: in the order of the settings."""

    by_name: Mapping[str, PlacedTarget]

    async def start(self) -> None:
        """Let targets that serve by themselves begin. Raises BadInput if one can't."""
        for placed in self.by_name.values():
            if isinstance(placed.target, Startable):
                await placed.target.start()

    async def close(self) -> None:
        for placed in self.by_name.values():
            await placed.target.close()


def make_targets(
    tables: Sequence[TargetSettings],
    *,
    clock: Clock,
    chance: Chance,
    quota: QuotaLedger,
    shelf_of: Callable[[str], Shelf],
) -> Targets:
    """Return the targets of the tables. shelf_of: the shelf of a target, by its name.

    Raises:
        BadInput: an optional package is missing.
    """
    return Targets(
        {
            table.name: PlacedTarget(
                target=make_target(
                    table, TargetParts(clock=clock, chance=chance, quota=quota, shelf=shelf_of(table.name))
                ),
                configurations=table.configurations,
                grace_seconds=table.grace_seconds,
            )
            for table in tables
        }
    )

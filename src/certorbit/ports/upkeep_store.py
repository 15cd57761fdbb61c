"""What is counted of everything at once, for metrics: a part of the store. It only reads."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from certorbit.model.operation import OperationKind, OperationState
from certorbit.model.upkeep import EndGroup


class UpkeepCounts(Protocol):
    def count_ends(self, *, now: datetime) -> Sequence[EndGroup]:
        """Return all entries in groups, without the placeholder: one query, whose cost grows with the entries."""

    def count_unfinished(self) -> Mapping[tuple[OperationKind, OperationState], int]:
        """Return how many operations are not over, of any age: one query by an index of theirs alone."""

    def list_sweeps(self) -> Mapping[str, datetime]:
        """Return by name when the next turn of each periodic job is due; one long ago: it never had one."""

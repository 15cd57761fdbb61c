"""Whether certificates are kept from ending, in numbers, for those who watch the service (docs/metrics.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from certorbit.model.entry import ConfigID
from certorbit.model.operation import OperationKind, OperationState

DAY: Final = timedelta(days=1)
# What a sweep does not start within this time of a planned renewal isn't coming by itself (workflows/renewal.py puts
# off for an hour at most).
OVERDUE_AFTER: Final = timedelta(hours=1)


class Validity(StrEnum):
    """Of an entry's current version."""

    VALID = "valid"
    ENDED = "ended"
    EMPTY = "empty"  # there is none: it is being issued, or that failed


class Within(StrEnum):
    """How soon a current version ends; a wider one includes the narrower ones."""

    ONE_DAY = "1d"
    SEVEN_DAYS = "7d"
    THIRTY_DAYS = "30d"

    @property
    def days(self) -> int:
        return int(self.value[:-1])


class RenewalStanding(StrEnum):
    """What is done about a version's end."""

    UNDER_WAY = "under_way"  # an issuance runs, or waits for its next attempt
    PLANNED = "planned"  # it is due before the end, and not overdue
    NONE = "none"  # nobody renews it: paused, never renewed by itself, a CA bundle, or overdue


@dataclass(frozen=True, slots=True)
class EndGroup:
    """Entries of a configuration that are alike. within: None: it ends later, has ended, or there is no version.

    first_end: of the group; None: they have no version.
    """

    config: ConfigID
    validity: Validity
    within: Within | None
    renewal: RenewalStanding
    number: int
    first_end: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """ending: cumulative. first_ends: of the configurations whose first end is nearest.

    unfinished: operations of any age. sweeps: when each one's next turn is due. seen: when each target answered last,
    None: never. unseen: targets whose last look failed.
    """

    entries: Mapping[Validity, int]
    ending: Mapping[tuple[Within, RenewalStanding], int]
    first_ends: Mapping[ConfigID, datetime]
    unfinished: Mapping[tuple[OperationKind, OperationState], int]
    sweeps: Mapping[str, datetime]
    seen: Mapping[str, datetime | None]
    unseen: frozenset[str]

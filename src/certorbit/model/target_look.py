"""Whether a target answered when it was asked last what its listeners hold."""

from dataclasses import dataclass
from datetime import datetime

from certorbit.model.operation import Problem


@dataclass(frozen=True, slots=True)
class TargetLook:
    """seen_at: when it answered last; None: never.

    unseen_since: since when nothing is known of it: from its last answer on, or from the first try if there was none;
    None while it answers. problem: why it did not at the last try.
    """

    seen_at: datetime | None
    unseen_since: datetime | None
    problem: Problem | None

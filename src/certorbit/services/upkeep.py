"""Whether certificates are kept from ending: three grouped queries and the looks, the same for every node."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from certorbit.model.entry import ConfigID
from certorbit.model.upkeep import EndGroup, RenewalStanding, Upkeep, Validity, Within
from certorbit.ports.store import UnitOfWork

MOST_CONFIGURATIONS: Final = 100  # that are named, those first whose first version ends first


def read_upkeep(tx: UnitOfWork, *, now: datetime) -> Upkeep:
    """Return the numbers of this instant."""
    groups, looks = tx.upkeep.count_ends(now=now), tx.listeners.looks()
    entries: Counter[Validity] = Counter()
    ending: Counter[tuple[Within, RenewalStanding]] = Counter()
    for group in groups:
        entries[group.validity] += group.number
        for within in Within:
            if group.within is not None and group.within.days <= within.days:
                ending[within, group.renewal] += group.number
    return Upkeep(
        entries=entries,
        ending=ending,
        first_ends=_first_ends(groups),
        unfinished=tx.upkeep.count_unfinished(),
        sweeps=tx.upkeep.list_sweeps(),
        seen={target: look.seen_at for target, look in looks.items()},
        unseen=frozenset(target for target, look in looks.items() if look.unseen_since is not None),
    )


def _first_ends(groups: Sequence[EndGroup]) -> Mapping[ConfigID, datetime]:
    ends: dict[ConfigID, datetime] = {}
    for group in groups:
        if group.first_end is not None:
            ends[group.config] = min(group.first_end, ends.get(group.config, group.first_end))
    return dict(sorted(ends.items(), key=lambda item: (item[1], item[0]))[:MOST_CONFIGURATIONS])

"""When an entry is looked at again, and what for."""

from dataclasses import dataclass
from datetime import datetime

from certorbit.model.entry import ConfigID, EntryUID
from certorbit.model.renewal import RenewalInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """An entry's own timer (docs/renewal.md).

    look_at: when the sweep looks at the entry next; None: there is nothing to look for.
    renew_at: when it is to be renewed, as decided at the last look; None: undecided, or never.
    reason: why then, for people: `ari`, `fraction`, `emergency` …; without `renew_at` the obstacle that the last look
        met (`next_version.Obstacle`).
    info: what the CA said of the current certificate (RFC 9773); None: not asked, or it has no such service.
    paused: an operator stopped the automatic renewal.
    issuer: the issuer that an operator chose for this entry; "": the first one.
    predecessor_not_before: of the version that the current one replaced (the loop guard of model/renewal.py).
    """

    entry_uid: EntryUID
    look_at: datetime | None
    renew_at: datetime | None = None
    reason: str = ""
    info: RenewalInfo | None = None
    paused: bool = False
    issuer: str = ""
    predecessor_not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Maker:
    """How many of a configuration's current certificates an issuer made. chosen: `Schedule.issuer` of these."""

    config: ConfigID
    made_by: str
    chosen: str
    certificates: int

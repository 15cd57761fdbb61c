"""Maintenance windows: the days and hours in which the operator wants certificates to change (`[[renewal.windows]]`).

Hours are those of a clock on the wall in some time zone, so each day's window is turned into two instants with that
day's own offset. `model/renewal.py` asks for the next allowed instant; an emergency doesn't ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

# Two weeks and a day: a window of one day a week may lie whole in the hour that the clock skips once a year.
_DAYS_AHEAD = 15
_END_OF_CALENDAR = datetime(9999, 12, 1, tzinfo=UTC)  # "no end" in certificates (RFC 5280 §4.1.2.5) is later
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """From `opens` to `closes` (exclusive) on each of the days; a window past midnight belongs to the day it opens.

    days: 0 is Monday. closes: not after `opens` means on the next day; both the same is 24 hours by the clock.
    """

    days: frozenset[int]
    opens: time
    closes: time
    zone: ZoneInfo

    def on(self, day: date) -> tuple[datetime, datetime] | None:
        """Return when the window of this local day opens and closes (UTC); None: it has none.

        A time that the clock skips is the instant of the jump, one that it shows twice is the first one. So a
        window that lies whole in the skipped hour does not exist on that day, and one around the repeated hour
        lasts an hour longer.
        """
        if day.weekday() not in self.days:
            return None
        last_day = day if self.closes > self.opens else day + timedelta(days=1)
        start = _first_instant(datetime.combine(day, self.opens), self.zone)
        end = _first_instant(datetime.combine(last_day, self.closes), self.zone)
        return (start, end) if start < end else None


def next_allowed(instant: datetime, windows: Sequence[MaintenanceWindow]) -> datetime:
    """Return the earliest instant, this one or a later one, that lies in one of the windows.

    Without any windows every instant is allowed. So is one for which none can be found (the end of the calendar):
    a renewal outside the hours is better than none.
    """
    if instant >= _END_OF_CALENDAR:
        return instant
    openings = [opening for window in windows if (opening := _next_in(window, instant)) is not None]
    return min(openings, default=instant)


def _next_in(window: MaintenanceWindow, instant: datetime) -> datetime | None:
    today = instant.astimezone(window.zone).date()
    for offset in range(-1, _DAYS_AHEAD):  # yesterday's may last past midnight
        hours = window.on(today + timedelta(days=offset))
        if hours is not None and instant < hours[1]:
            return max(instant, hours[0])
    return None


def _first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant (UTC) at which the clock of the zone first shows `wall`, or jumps over it."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first <= second:  # shown once, or twice (PEP 495)
        return first
    # Skipped: by the offset after the jump it would be `second`, which is before the jump, and the other way round.
    before, after = second, first
    while (seconds := (after - before) // _SECOND) > 1:
        middle = before + timedelta(seconds=seconds // 2)
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            before = middle
        else:
            after = middle
    return after

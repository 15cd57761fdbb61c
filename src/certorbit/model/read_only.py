"""The read-only mode of the whole service: on or off, since when, by whom."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ReadOnlyMode:
    """by: the name of the key that switched it; "" before anybody did."""

    on: bool
    since: datetime | None = None
    by: str = ""

"""What targets are given where no database is opened (`certorbit targets check --local`): enough to look, no more.

Such a check runs before the first start of a service, perhaps as another user: it must not leave a database or a key
file behind that the service then can't open.
"""

from collections.abc import Collection, Mapping, Sequence

from certorbit.errors import Broken
from certorbit.model.client_policy import ClientPolicy
from certorbit.ports.target import ShelfItem, ShelfState

_REFUSAL = "A target changed something without a database."


class NoQuota:
    """Implements `ports.target.QuotaLedger`: a check uses nothing up."""

    async def spend(self, account: str, kind: str, *, limit: int, days: int) -> None:
        """Raise Broken."""
        raise Broken(f"{_REFUSAL} ({account}, {kind}, {limit}/{days})")


class EmptyShelf:
    """Implements `ports.target.Shelf`: nothing was ever on it, and a check puts nothing there."""

    async def revision(self) -> int:
        return 0

    async def load(self) -> ShelfState:
        return ShelfState(0, (), {})

    async def change(
        self,
        *,
        at: int,
        put: Sequence[ShelfItem] = (),
        remove: Collection[str] = (),
        slots: Mapping[str, str] | None = None,
        policies: Mapping[str, ClientPolicy | None] | None = None,
    ) -> ShelfState:
        """Raise Broken."""
        raise Broken(f"{_REFUSAL} ({at}, {len(put)}, {len(remove)}, {len(slots or {})}, {len(policies or {})})")

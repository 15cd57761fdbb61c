"""What a provider allows only so often, counted in the store."""

from datetime import datetime, timedelta

from certorbit.clock import Clock
from certorbit.errors import TargetFull, retry_at
from certorbit.ports.store import Store, UnitOfWork


class StoredQuota:
    """Implements `ports.target.QuotaLedger` over all processes and restarts."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def spend(self, account: str, kind: str, *, limit: int, days: int) -> None:
        """Write down one use before it happens (`QuotaLedger.spend`).

        Raises:
            TargetFull: `limit` uses were written down within the last `days` days; its retry says when one is free.
            Unreachable: the database.
        """
        now = self._clock.now()
        span = timedelta(days=days)

        def work(tx: UnitOfWork) -> datetime | None:
            """Count the use and return None, or return when the oldest one that fills the quota is over."""
            tx.quotas.lock(account, kind)
            filling = tx.quotas.find_nth_newest(account, kind, nth=limit)
            if filling is not None and filling > now - span:
                return filling + span
            tx.quotas.add(account, kind, at=now)
            return None

        free_at = await self._store.write(work)
        if free_at is not None:
            raise TargetFull(
                f"{account} has used all {limit} of {kind} within {days} days; the next is free at"
                f" {free_at:%Y-%m-%d %H:%M} UTC. Let the provider raise the quota, and the setting with it, or wait.",
                subject=account,
                retry=retry_at(free_at),
            )

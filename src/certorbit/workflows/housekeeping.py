"""What has to be tidied up now and then: challenge answers nobody took away, workflows and roll-outs of long ago."""

from datetime import timedelta

import structlog

from certorbit.clock import Clock
from certorbit.ports.store import Store
from certorbit.workflows.engine import RETENTION, Engine

log = structlog.get_logger(__name__)

INTERVAL = timedelta(hours=1)
# Failing names are tried every day; what nobody tried for a week is in no certificate any more.
FORGET_NAMES_AFTER = timedelta(days=7)
FORGET_USES_AFTER = timedelta(days=400)  # the longest window of a provider's quota is a year (facts.md 3.6)

# Revocation lists that nobody has fetched since: no certificate names them any more.
FORGET_LISTS_AFTER = timedelta(days=30)


async def tidy(*, store: Store, engine: Engine, clock: Clock) -> None:
    """Delete expired challenge answers, what limits and failures need no more, and workflows that ended long ago."""
    now = clock.now()
    challenges = await store.write(lambda tx: tx.challenges.delete_expired(now=now))
    buckets = await store.write(lambda tx: tx.limits.delete_full(now=now))
    names = await store.write(lambda tx: tx.failures.delete_stale(before=now - FORGET_NAMES_AFTER))
    rollouts = await store.write(lambda tx: tx.rollouts.delete_before(now - RETENTION))
    await store.write(lambda tx: tx.quotas.delete_before(now - FORGET_USES_AFTER))
    lists = await store.write(lambda tx: tx.revocations.delete_crls_before(now - FORGET_LISTS_AFTER))
    workflows = await engine.clean_up(RETENTION)
    log.info(
        "housekeeping.done",
        challenges=challenges,
        buckets=buckets,
        names=names,
        rollouts=rollouts,
        crls=lists,
        workflows=workflows,
    )

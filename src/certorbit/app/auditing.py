"""Joins what keeps the audit trail: the sealing, in every process, and the retention, in workers."""

from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import structlog

from certorbit.app.ground import CHANCE, CLOCK
from certorbit.errors import CertorbitError
from certorbit.ports.store import Store
from certorbit.services import audit
from certorbit.settings import Settings
from certorbit.workflows.periodic import Periodic

log = structlog.get_logger(__name__)

# Who deletes a record within this time leaves no gap in the chain (docs/audit.md), so it is short.
SEAL_EVERY: Final = timedelta(seconds=1)
EXPIRE_EVERY: Final = timedelta(hours=1)


def start_sealing(store: Store, *, stack: AsyncExitStack) -> None:
    """Seal what any process has written, until the stack ends, and once more then."""
    sealing = Periodic("audit_sealing", lambda: audit.seal_waiting(store), every=SEAL_EVERY, clock=CLOCK, chance=CHANCE)
    sealing.start()

    async def stop() -> None:
        await sealing.stop()
        try:
            await audit.seal_waiting(store)
        except CertorbitError as error:  # whoever starts next does it
            log.warning("audit.not_sealed", problem=error.message)

    stack.push_async_callback(stop)


def make_audit_retention(settings: Settings, *, store: Store) -> Periodic:
    """Return what deletes old records and notes the chain's head in the log, to be started by workers."""

    async def look() -> None:
        await audit.expire(store, days=settings.audit.retention_days, now=CLOCK.now())
        head = (await audit.read_state(store)).head
        # Logs are kept elsewhere: a chain that is made anew later does not fit to what they say.
        log.info("audit.head", number=head.number, hash=head.hash)

    return Periodic("audit", look, every=EXPIRE_EVERY, clock=CLOCK, chance=CHANCE)

"""Moves every secret to the key that seals: unwraps its data key and wraps it again; what it seals stays as it is.

Nothing is remembered between two runs: what is left to do is what another key seals. So a run that was killed goes on
at the next one, and two at once are harmless: a row that changed meanwhile is left alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from certorbit.clock import Clock
from certorbit.errors import Broken
from certorbit.keys.keeper import KeyringKeeper
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.keyring import SealedSecret, newest_in_use
from certorbit.ports.store import Store, UnitOfWork

log = structlog.get_logger(__name__)

INTERVAL: Final = timedelta(minutes=1)
CHECK_EVERY: Final = timedelta(hours=1)  # reads every envelope's beginning, so that stragglers are found
PAGE: Final = 200  # secrets in one transaction: some milliseconds
# A process that hasn't heard of the new key seals by the old one for a minute at most (refresh_seconds).
GRACE: Final = timedelta(minutes=5)
Report = Callable[[int], None]


def report_nothing(_done: int) -> None:
    """Be quiet."""


@dataclass(frozen=True, slots=True)
class Rewrapping:
    """The work with its parts. page: secrets in one transaction."""

    keeper: KeyringKeeper
    store: Store
    clock: Clock
    page: int = PAGE

    async def sweep(self) -> int:
        """Do what is to be done in this cluster, if it is this process's turn. Returns how many were re-wrapped."""
        now = self.clock.now()
        keys = await self.store.read(lambda tx: tx.key_encryption_keys.list())
        name, every = "keyring_check", CHECK_EVERY
        if sum(key.retired_at is None for key in keys) > 1:
            name, every = "keyring", INTERVAL * 0.75
        if not await self.store.write(lambda tx: tx.schedules.claim_sweep(name, now=now, every=every)):
            return 0
        done = await self.run()
        await self.retire()
        return done

    async def run(self, *, report: Report = report_nothing) -> int:
        """Re-wrap all secrets that another key seals than the newest. Returns how many; report: is told so far.

        A secret that does not open is logged and left: its key is then never retired.
        """
        await self.keeper.refresh()
        done = 0
        for kind in await self.store.read(lambda tx: tx.sealed_secrets.kinds()):
            after: tuple[str, ...] | None = None
            while page := await self._read(kind, after):
                done += await self._rewrap(page)
                report(done)
                after = page[-1].key
        if done:
            log.info("keyring.rewrapped", secrets=done, key=self.keeper.keyring.key_id)
        return done

    async def retire(self) -> Sequence[str]:
        """Retire keys that nothing is sealed by any more. Returns their ids. A retired key that is found again, isn't.

        Only when the newest is old enough for every process to know it.
        """
        now = self.clock.now()

        def retire(tx: UnitOfWork) -> Sequence[str]:
            keys = tx.key_encryption_keys.list()
            newest = newest_in_use(keys)
            if newest is None or now - newest.created_at < GRACE:
                return []
            counts = tx.sealed_secrets.count_by_key()
            retired = []
            for key in keys:
                if key.retired_at is not None and counts.get(key.id):
                    tx.key_encryption_keys.set_retired(key.id, None)
                elif key.retired_at is None and key.id != newest.id and not counts.get(key.id):
                    tx.key_encryption_keys.set_retired(key.id, now)
                    retired.append(key.id)
            if retired:
                tx.audit.add(AuditEvent(action=Action.KEYRING_RETIRED, objects=tuple(retired)), now=now)
            return retired

        retired = await self.store.write(retire)
        for key_id in retired:
            log.info("keyring.key_retired", key=key_id)
        return retired

    async def _read(self, kind: str, after: tuple[str, ...] | None) -> Sequence[SealedSecret]:
        than = self.keeper.keyring.key_id
        return await self.store.read(
            lambda tx: tx.sealed_secrets.list_others(kind, than=than, after=after, limit=self.page)
        )

    async def _rewrap(self, page: Sequence[SealedSecret]) -> int:
        fresh: list[tuple[SealedSecret, bytes]] = []
        for secret in page:
            try:
                fresh.append((secret, self.keeper.keyring.rewrap(secret.envelope, context=secret.context)))
            except Broken as error:
                log.error("keyring.secret_lost", kind=secret.kind, context=secret.context, message=error.message)  # noqa: TRY400 - no traceback: the message says it all

        def put(tx: UnitOfWork) -> int:
            count = sum(tx.sealed_secrets.replace(secret, envelope) for secret, envelope in fresh)
            if count:
                objects, details = (self.keeper.keyring.key_id,), {"secrets": count}
                event = AuditEvent(action=Action.KEYRING_REWRAPPED, objects=objects, details=details)
                tx.audit.add(event, now=self.clock.now())
            return count

        return await self.store.write(put)

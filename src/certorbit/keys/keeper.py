"""Keeps the keyring in step with the database: keys that other processes made, new ones of its own.

    provider (KMS, HSM, file)  wraps  key-encryption key  wraps  data key  seals  one secret
    asked once per process            in memory                  in the envelope

A new key is stored before it seals anything, and only after the provider has given it back once.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from datetime import datetime, timedelta
from typing import Final

import structlog

from certorbit.clock import Clock
from certorbit.errors import Broken, CertorbitError
from certorbit.keys.envelope import KEY_BYTES, KeyEncryptionKey
from certorbit.keys.keyring import LocalKeyring
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.keyring import StoredKey, newest_in_use
from certorbit.ports.key_wrapping import KeyWrapping, WrappedKey
from certorbit.ports.store import Store, UnitOfWork

log = structlog.get_logger(__name__)

LOOKUP_SECONDS: Final = 5.0  # how long one envelope with an unknown key may hold up who opens it
FORGET_MISSES_AFTER: Final = timedelta(seconds=10)  # until then the same unknown key is not looked for again


class KeyWrappings:
    """The providers that the settings tell how to reach, and which of them wraps new keys."""

    def __init__(self, by_provider: Mapping[str, KeyWrapping], *, provider: str) -> None:
        self._by_provider = by_provider
        self.provider = provider

    async def make_key(self, *, now: datetime) -> tuple[KeyEncryptionKey, StoredKey]:
        """Return a new key and its row.

        Raises:
            Unreachable, Outside: the provider; see `ports.key_wrapping`.
            Broken: it doesn't give back what it wrapped.
        """
        material = os.urandom(KEY_BYTES)
        key = KeyEncryptionKey(material)
        wrapping = self._by_provider[self.provider]
        wrapped = await wrapping.wrap(material, key_id=key.id)
        row = StoredKey(key.id, self.provider, wrapped.wrapping_key, wrapped.blob, now)
        await self.unwrap(row)
        return key, row

    async def unwrap(self, row: StoredKey) -> KeyEncryptionKey:
        """Return the key of a row that holds a wrapped one.

        Raises:
            Unreachable, Outside: the provider; see `ports.key_wrapping`.
            Broken: the settings don't say how to reach the provider, or it gave another key.
        """
        wrapping = self._by_provider.get(row.provider)
        if wrapping is None:
            raise Broken(
                f"The key-encryption key {row.id} is wrapped by {row.provider} ({row.wrapping_key}), but the settings"
                f" have no table for it. Give [keyring.{row.provider.replace('-', '_')}] back until"
                " `certorbit keyring rotate` has moved everything to another key.",
                subject="keyring",
            )
        material = await wrapping.unwrap(WrappedKey(row.wrapping_key, row.wrapped), key_id=row.id)
        if len(material) != KEY_BYTES or (key := KeyEncryptionKey(material)).id != row.id:
            raise Broken(
                f"{row.provider} ({row.wrapping_key}) gave another key than the key-encryption key {row.id}: the"
                " database's row or the provider's key was changed. Restore the database from a backup.",
                subject="keyring",
            )
        return key


class KeyringKeeper:
    """keyring: the one that everybody seals and opens with. Belongs to one process; `close` it."""

    def __init__(
        self, keys: Sequence[KeyEncryptionKey], *, store: Store, wrappings: KeyWrappings, clock: Clock
    ) -> None:
        """keys: those in memory; the first one seals."""
        self.keyring = LocalKeyring(keys, find=self._find_blocking)
        self._store = store
        self._wrappings = wrappings
        self._clock = clock
        self._missed: dict[str, datetime] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keyring")

    async def refresh(self) -> None:
        """Learn the keys that other processes made, and seal by the newest.

        Raises:
            Unreachable, Outside, Broken: a new key can't be had; what was known before goes on.
        """
        rows = await self._store.read(lambda tx: tx.key_encryption_keys.list())
        newest = newest_in_use(rows)
        known = self.keyring.key_ids
        for row in rows:
            if row.retired_at is None and not row.is_direct and row.id not in known:
                self.keyring.hold([await self._wrappings.unwrap(row)])
        if newest is None or newest.id == self.keyring.key_id:
            return
        if newest.id not in self.keyring.key_ids:
            raise Broken(
                f"Other processes seal by the key-encryption key {newest.id}, which is missing in this one's settings"
                " or key file. Give all processes the same.",
                subject="key_encryption_key",
            )
        self.keyring.hold(sealing=newest.id)
        log.info("keyring.key_changed", key=newest.id)

    async def rotate(self) -> StoredKey:
        """Make a new key by the provider of the settings and seal by it; other processes follow. Returns its row.

        Raises:
            Unreachable, Outside, Broken: see `KeyWrappings.make_key`; nothing has changed.
        """
        key, row = await self._wrappings.make_key(now=self._clock.now())

        def add(tx: UnitOfWork) -> StoredKey:
            newest = newest_in_use(tx.key_encryption_keys.list())
            # A clock that goes backwards must not make an older key the newest.
            after = newest.created_at + timedelta(microseconds=1) if newest else row.created_at
            stored = StoredKey(row.id, row.provider, row.wrapping_key, row.wrapped, max(row.created_at, after))
            tx.key_encryption_keys.add(stored)
            details = {"provider": row.provider, "wrapping_key": row.wrapping_key}
            event = AuditEvent(action=Action.KEYRING_ROTATED, objects=(row.id,), details=details)
            tx.audit.add(event, now=self._clock.now())
            return stored

        stored = await self._store.write(add)
        self.keyring.hold([key], sealing=key.id)
        log.info("keyring.rotated", key=key.id, provider=row.provider, wrapping_key=row.wrapping_key)
        return stored

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _find_blocking(self, key_id: str) -> KeyEncryptionKey | None:
        """Look for a key that another process made since the last `refresh`. Blocks, rarely: see the constants.

        It has a thread and an event loop of its own: whoever opens an envelope may be in one already.
        """
        missed = self._missed.get(key_id)
        if missed is not None and self._clock.now() - missed < FORGET_MISSES_AFTER:
            return None
        self._missed[key_id] = self._clock.now()
        try:
            found = self._thread.submit(lambda: asyncio.run(self._find(key_id))).result(LOOKUP_SECONDS)
        except TookTooLong:
            raise Broken(
                f"The key-encryption key {key_id} can't be had now: no answer in time.", subject=key_id
            ) from None
        except CertorbitError as error:
            raise Broken(
                f"The key-encryption key {key_id} can't be had now: {error.message}", subject=key_id
            ) from error
        if found is not None:
            del self._missed[key_id]
        return found

    async def _find(self, key_id: str) -> KeyEncryptionKey | None:
        row = await self._store.read(lambda tx: tx.key_encryption_keys.find(key_id))
        if row is None or row.is_direct:
            return None
        key = await self._wrappings.unwrap(row)
        self.keyring.hold([key])
        return key

"""Revocation lists by issuer and URL: one copy for all certificates that name it, kept until it ends.

A download replaces the stored copy only after every check that doesn't depend on the single certificate: so a forged,
an old or a broken answer costs nothing but a sentence, and nobody's number is taken for the issuer's.
"""

import asyncio
from collections import OrderedDict
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from weakref import WeakValueDictionary

import structlog
from cryptography import x509

from certorbit.clock import Chance, Clock
from certorbit.errors import CRLUnusable, Unreachable
from certorbit.net.fetch import Bounds, Fetched, GuardedFetcher, Validators
from certorbit.net.guard import find_fault, lower_scheme
from certorbit.observe.metrics import Metrics
from certorbit.pki.crl_check import CRLIndex, check_dates, check_follows, check_signed_by, read_crl
from certorbit.pki.crl_points import identify_issuer
from certorbit.pki.pem import read_certificates
from certorbit.ports.authority import OwnRevocations
from certorbit.ports.crl_source import CRLCopy
from certorbit.ports.crl_store import StoredCRL
from certorbit.ports.store import Store
from certorbit.revocation_settings import RevocationSettings

log = structlog.get_logger(__name__)

SECONDS: Final = 60.0  # of one download, redirects included
DOWNLOADS_AT_ONCE: Final = 16
# After failures, one after the other. The last one is for hosts that are gone: certificates outlive them.
PAUSES: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240, 720))
LEAST_PAUSE: Final = timedelta(minutes=1)
OWN_PAUSE: Final = timedelta(hours=1)  # of the built-in CA's list; a revocation through us asks for a look at once
OFF_PAUSE: Final = timedelta(days=1)
# Serials of the lists that stay in memory, all together: about 50 MB. The list used last stays, whatever its size.
MOST_SERIALS: Final = 200_000


class CRLLists:
    """Implements `ports.crl_source.CRLSource`. own: the built-in CA; None: there is none."""

    def __init__(
        self,
        *,
        store: Store,
        fetcher: GuardedFetcher,
        own: OwnRevocations | None,
        settings: RevocationSettings,
        clock: Clock,
        chance: Chance,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._own = own
        self._own_issuer: tuple[str, x509.Certificate] | None = None
        self._own_checked = ""  # digest of its list whose signature was checked
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._bounds = Bounds(most_bytes=settings.most_mebibytes * 1024 * 1024, seconds=SECONDS)
        self._slots = asyncio.Semaphore(DOWNLOADS_AT_ONCE)
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._indices: OrderedDict[str, CRLIndex] = OrderedDict()
        self._downloads = metrics.counter(
            "certorbit_crl_downloads_total", meaning="Revocation lists asked for, by outcome", labels=("outcome",)
        )

    async def find(self, url: str, *, issuer: x509.Certificate, issuer_id: str) -> CRLCopy:
        if not self._settings.check:
            off = "Revocation lists are not downloaded (setting [revocation] check)."
            return CRLCopy(None, off, self._clock.now() + OFF_PAUSE)
        fault = find_fault(lower_scheme(url))
        if fault:  # it never gets into the database: no text column would take all that a certificate can hold
            return CRLCopy(None, f"The URL is not asked: {fault}.", self._clock.now() + OFF_PAUSE)
        lock = self._locks.setdefault((url, issuer_id), asyncio.Lock())
        async with lock:
            stored = await self._store.read(lambda tx: tx.revocations.find_crl(url, issuer_id))
            if stored is None or stored.next_fetch_at <= self._clock.now():
                before = stored or StoredCRL(url=url, issuer_id=issuer_id, next_fetch_at=self._clock.now())
                async with self._slots:
                    stored = await self._refresh(before, issuer)
            return await self._open(stored)

    async def find_own(self, issuer_id: str) -> CRLCopy | None:
        if self._own is None:
            return None
        if self._own_issuer is None:
            (issuing,) = read_certificates(await self._own.issuing_pem(), subject="authority")
            self._own_issuer = identify_issuer(issuing), issuing
        own_id, issuing = self._own_issuer
        if own_id != issuer_id:
            return None
        der, now = await self._own.crl_der(), self._clock.now()
        next_look_at = now + OWN_PAUSE
        try:
            digest = sha256(der).hexdigest()
            index = await self._read(der, digest=digest)
            if digest != self._own_checked:  # every certificate of ours asks
                await asyncio.to_thread(check_signed_by, index, issuing)
                self._own_checked = digest
            check_dates(index, now=now)
            self._keep(digest, index)
        except CRLUnusable as error:
            return CRLCopy(None, error.message, next_look_at)
        return CRLCopy(index, "", next_look_at)

    async def _refresh(self, before: StoredCRL, issuer: x509.Certificate) -> StoredCRL:
        """Return the list's row after a download, written; its content is the new one if that is usable."""
        now = self._clock.now()
        is_current = before.next_update is not None and now < before.next_update
        # Only a list that is still valid can be confirmed: 'not modified' would keep an ended one for ever.
        known = Validators(before.etag, before.last_modified) if is_current else None
        content: bytes | None = None
        try:
            fetched = await self._fetcher.fetch(before.url, bounds=self._bounds, known=known)
            content = fetched.body
            after = await self._take(before, fetched, issuer)
            outcome = "unchanged" if content is None else "new"
        except (Unreachable, CRLUnusable) as error:
            content = None
            outcome = "unreachable" if isinstance(error, Unreachable) else "unusable"
            pause = PAUSES[min(before.failures, len(PAUSES) - 1)] * self._chance.between(0.8, 1.2)
            after = replace(before, next_fetch_at=now + pause, failures=before.failures + 1, problem=error.message)
            log.warning("crl.not_usable", url=before.url, failures=after.failures, message=error.message)
        self._downloads.add(outcome)
        await self._store.write(lambda tx: tx.revocations.put_crl(after, der=content))
        return after

    async def _take(self, before: StoredCRL, fetched: Fetched, issuer: x509.Certificate) -> StoredCRL:
        """Return the row of what came. Raises CRLUnusable."""
        now = self._clock.now()
        if fetched.body is None:
            assert before.next_update is not None
            after = replace(before, fetched_at=now, failures=0, problem="")
            return replace(after, next_fetch_at=self._next_fetch(before.next_update, now=now))
        digest = sha256(fetched.body).hexdigest()
        index = await self._read(fetched.body, digest=digest)
        await asyncio.to_thread(check_signed_by, index, issuer)
        check_dates(index, now=now)
        if before.this_update is not None:
            check_follows(index, number=before.number, this_update=before.this_update)
        self._keep(digest, index)
        log.info("crl.downloaded", url=before.url, entries=index.size, next_update=index.next_update.isoformat())
        return StoredCRL(
            url=before.url,
            issuer_id=before.issuer_id,
            next_fetch_at=self._next_fetch(index.next_update, now=now),
            etag=fetched.validators.etag,
            last_modified=fetched.validators.last_modified,
            number=index.number,
            this_update=index.this_update,
            next_update=index.next_update,
            fetched_at=now,
            digest=digest,
        )

    def _next_fetch(self, next_update: datetime, *, now: datetime) -> datetime:
        """Return when to ask again: within the settings' hours, and ahead of the list's end; never all at once."""
        usual = now + timedelta(hours=self._settings.refresh_hours) * self._chance.between(0.9, 1.0)
        ahead = now + (next_update - now) * self._chance.between(0.8, 0.9)
        return max(min(usual, ahead), now + LEAST_PAUSE)

    async def _open(self, stored: StoredCRL) -> CRLCopy:
        """Return the stored list if it is valid now."""
        next_look_at = max(stored.next_fetch_at, self._clock.now() + LEAST_PAUSE)
        if not stored.digest:
            return CRLCopy(None, stored.problem, next_look_at)
        try:
            index = self._indices.get(stored.digest)
            if index is None:
                der = await self._store.read(lambda tx: tx.revocations.load_crl(stored.url, stored.issuer_id))
                index = await self._read(der or b"", digest=stored.digest)
                self._keep(stored.digest, index)
            check_dates(index, now=self._clock.now())
        except CRLUnusable as error:
            return CRLCopy(None, f"{error.message} {stored.problem}".strip(), next_look_at)
        return CRLCopy(index, stored.problem, next_look_at)

    async def _read(self, content: bytes, *, digest: str) -> CRLIndex:
        """Return the list with its index; the one that is in memory if there is one. Raises CRLUnusable."""
        index = self._indices.get(digest)
        return index if index is not None else await asyncio.to_thread(read_crl, content)

    def _keep(self, digest: str, index: CRLIndex) -> None:
        """Keep a checked list in memory, so that it is read once however many certificates ask for it."""
        self._indices[digest] = index
        self._indices.move_to_end(digest)
        while len(self._indices) > 1 and sum(kept.size for kept in self._indices.values()) > MOST_SERIALS:
            self._indices.popitem(last=False)

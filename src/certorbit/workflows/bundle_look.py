"""The look at the revocation lists of CA bundles: once an hour, once per cluster (docs/mutual-tls.md).

Newer lists of a bundle's CAs are downloaded and take the held ones' place; listeners that check clients by them get
them by a deployment.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from certorbit.clock import Clock
from certorbit.deploying.client_policies import redeploy_bundle
from certorbit.errors import BadMaterial
from certorbit.model.entry import Entry, EntryUID
from certorbit.pki.bundle_lists import ListPlace, find_places, is_for_all, is_newer, write_crls
from certorbit.pki.crl_check import CRLIndex
from certorbit.ports.crl_source import CRLCopy, CRLSource
from certorbit.ports.store import Store, UnitOfWork

log = structlog.get_logger(__name__)

NAME: Final = "bundle-lists"
INTERVAL: Final = timedelta(minutes=5)
EVERY: Final = timedelta(hours=1)  # lists live for days; the downloads have their own times
# A bundle may name hundreds of URLs that never answer. What was found out of them is kept for the next look.
AT_ONCE: Final = 4
BUNDLE_SECONDS: Final = 300.0
MOST_BYTES: Final = 64 * 1024 * 1024  # of a bundle's lists together; all bundles are read at once for the look


class BundleLook:
    """The look with its parts."""

    def __init__(
        self,
        *,
        store: Store,
        source: CRLSource,
        clock: Clock,
        new_id: Callable[[], str],
        bundle_seconds: float = BUNDLE_SECONDS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """Make the look. bundle_seconds: the longest one at a bundle. most_bytes: of a bundle's lists, all together."""
        self._store = store
        self._source = source
        self._clock = clock
        self._new_id = new_id
        self._bundle_seconds = bundle_seconds
        self._most_bytes = most_bytes

    async def sweep(self) -> int:
        """Look at all bundles, unless another worker did so within the hour. Returns: how many got newer lists."""
        now = self._clock.now()
        if not await self._store.write(lambda tx: tx.schedules.claim_sweep(NAME, now=now, every=EVERY)):
            return 0
        bundles = await self._store.read(lambda tx: tx.entries.list_bundles())
        slots = asyncio.Semaphore(AT_ONCE)
        looks = await asyncio.gather(*(self._look_in_time(bundle, slots) for bundle in bundles), return_exceptions=True)
        for found in looks:
            if isinstance(found, BaseException):
                raise found
        return looks.count(True)

    async def _look_in_time(self, bundle: Entry, slots: asyncio.Semaphore) -> bool:
        async with slots:
            try:
                async with asyncio.timeout(self._bundle_seconds):
                    return await self._look_at(bundle)
            except TimeoutError:
                log.warning("bundle.slow", config=bundle.config, entry=bundle.id, seconds=self._bundle_seconds)
                return False

    async def _look_at(self, bundle: Entry) -> bool:
        """Return whether the bundle has newer lists now. What a hostile one makes costly is done in threads."""
        if bundle.current is None:
            return False
        try:
            places = await asyncio.to_thread(find_places, bundle.current.chain_pem, bundle.crl)
        except BadMaterial as error:
            log.warning("bundle.unreadable", config=bundle.config, entry=bundle.id, message=error.message)
            return False
        crl = await self._find_newer(bundle, places)
        if crl is None:
            return False
        if sum(map(len, crl)) > self._most_bytes:
            log.warning("bundle.lists_too_long", config=bundle.config, entry=bundle.id, most_bytes=self._most_bytes)
            return False
        now = self._clock.now()
        is_written = await self._store.write(lambda tx: self._write(tx, bundle, crl, now=now))
        if is_written:
            log.info("bundle.lists_renewed", config=bundle.config, entry=bundle.id, lists=len(crl))
        return is_written

    async def _find_newer(self, bundle: Entry, places: Sequence[ListPlace]) -> tuple[str, ...] | None:
        """Return the bundle's lists if any of them is newer than the held one; None: it keeps those it has."""
        found = [await self._find_list(place) for place in places]
        if any(index is None for index in found) and not bundle.crl:
            return None  # who checks by some lists looks for all of them, and lets nobody in
        if all(index is None for index in found):
            return None
        lists = [place.held if index is None else index for index, place in zip(found, places, strict=True)]
        crl = await asyncio.to_thread(write_crls, [index for index in lists if index is not None])
        return crl if crl != bundle.crl else None

    async def _find_list(self, place: ListPlace) -> CRLIndex | None:
        """Return the CA's newest list if it is newer than the held one; None: there is none."""
        own = await self._source.find_own(place.issuer_id)
        copies = [own] if own is not None else await self._ask(place)
        newest = place.held
        for copy in copies:
            if copy.index is not None and is_for_all(copy.index) and is_newer(copy.index, newest):
                newest = copy.index
        return newest if newest is not place.held else None

    async def _ask(self, place: ListPlace) -> list[CRLCopy]:
        return [await self._source.find(url, issuer=place.issuer, issuer_id=place.issuer_id) for url in place.urls]

    def _write(self, tx: UnitOfWork, seen: Entry, crl: Sequence[str], *, now: datetime) -> bool:
        fresh = tx.entries.get_by_uid(EntryUID(seen.uid))
        if fresh is None or fresh.crl != seen.crl or fresh.current != seen.current:
            return False  # changed while we looked: the next look
        tx.entries.set_crl(fresh.uid, crl)
        redeploy_bundle(tx, fresh, now=now, new_id=self._new_id)
        return True

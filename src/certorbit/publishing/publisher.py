"""Publishes a configuration: takes its turn, looks at it once, and brings every wanted bucket to what it is then."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from certorbit.clock import Clock
from certorbit.errors import BadInput, CertorbitError, Outside, Publishing, Refused, Unreachable
from certorbit.model.edge_bundle import (
    MANIFEST,
    OBJECTS,
    BundlePlan,
    Earlier,
    EdgeSnapshot,
    folder_of,
    plan_bundle,
    read_earlier,
)
from certorbit.model.entry import ConfigID, Version, key_context
from certorbit.ports.bucket import Bucket, BucketReport, PublishReport, StoredObject, WantedBucket
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.publish_settings import PublishSettings
from certorbit.publishing.choosing import choose_buckets
from certorbit.publishing.opening import open_bucket
from certorbit.publishing.sealing import Recipient

log = structlog.get_logger(__name__)

LIMIT_SECONDS: Final = 24.0  # clients hang up after 30
TURN: Final = timedelta(seconds=60)  # longer than a publish can take: nobody else begins while we may still write
LARGEST_MANIFEST: Final = 64 * 1024 * 1024
_WRITES_AT_ONCE: Final = 24  # per bucket: 2,000 objects at 50 ms each are done in five seconds


class PublishTransactions(Protocol):
    """What the publisher does in the store (`services.publish`)."""

    def begin(
        self,
        tx: UnitOfWork,
        config: ConfigID,
        *,
        holder: str,
        now: datetime,
        until: datetime,
        buckets: Sequence[str] = (),
    ) -> None: ...
    def take_snapshot(self, tx: UnitOfWork, config: ConfigID) -> EdgeSnapshot: ...
    def end(self, tx: UnitOfWork, config: ConfigID, *, holder: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Failure:
    """A bucket that does not have the bundle."""

    bucket: str
    error: CertorbitError


class Publisher:
    """Implements `ports.bucket.BundlePublisher`."""

    def __init__(
        self,
        *,
        settings: PublishSettings,
        store: Store,
        keyring: Keyring,
        transactions: PublishTransactions,
        clock: Clock,
        new_id: Callable[[], str],
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        """limit_seconds: for the buckets, of one publish; well below the turn's 60 seconds."""
        self._settings = settings
        self._store = store
        self._keyring = keyring
        self._transactions = transactions
        self._clock = clock
        self._new_id = new_id
        self._limit_seconds = limit_seconds

    async def publish(self, config: ConfigID, wanted: Sequence[WantedBucket]) -> PublishReport:
        chosen = choose_buckets(wanted, self._settings)
        recipient = self._recipient()
        buckets = [open_bucket(settings) for settings in chosen]
        holder, now = self._new_id(), self._clock.now()
        names = [bucket.name for bucket in buckets]
        deadline = asyncio.get_running_loop().time() + self._limit_seconds
        await self._store.write(
            lambda tx: self._transactions.begin(tx, config, holder=holder, now=now, until=now + TURN, buckets=names)
        )
        try:
            snapshot = await self._store.read(lambda tx: self._transactions.take_snapshot(tx, config))
            return await self._publish(snapshot, buckets, recipient=recipient, deadline=deadline)
        finally:
            await self._end(config, holder=holder)

    def _recipient(self) -> Recipient:
        if not self._settings.recipient_key:
            raise BadInput(
                "Nothing can be published yet: private keys leave this service only sealed. Set recipient_key in"
                " [publish] to the X25519 public key of whoever reads the bundles.",
                subject="recipient_key",
            )
        return Recipient.from_text(self._settings.recipient_key)

    async def _end(self, config: ConfigID, *, holder: str) -> None:
        try:
            await self._store.write(lambda tx: self._transactions.end(tx, config, holder=holder))
        except CertorbitError as error:  # the bundle is there or not, whatever becomes of the turn, which ends anyway
            log.warning("publish.turn_kept", configuration=config, message=error.message)

    async def _publish(
        self, snapshot: EdgeSnapshot, buckets: Sequence[Bucket], *, recipient: Recipient, deadline: float
    ) -> PublishReport:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._try_bucket(bucket, snapshot, recipient=recipient, deadline=deadline))
                for bucket in buckets
            ]
        outcomes = [task.result() for task in tasks]
        done = [outcome for outcome in outcomes if isinstance(outcome, BucketReport)]
        failed = [outcome for outcome in outcomes if isinstance(outcome, _Failure)]
        if failed:
            raise _sum_up(snapshot.configuration.id, done, failed)
        return PublishReport(
            config=snapshot.configuration.id,
            version=snapshot.configuration.version,
            unavailable=snapshot.unavailable,
            buckets=done,
        )

    async def _try_bucket(
        self, bucket: Bucket, snapshot: EdgeSnapshot, *, recipient: Recipient, deadline: float
    ) -> BucketReport | _Failure:
        config = snapshot.configuration.id
        objects = f"{folder_of(config)}/{OBJECTS}"
        try:
            async with asyncio.timeout_at(deadline):
                plan = await self._bring_up_to_date(bucket, snapshot, objects=objects, recipient=recipient)
        except TimeoutError:
            error: CertorbitError = Unreachable(
                f"The bucket {bucket.name!r} did not take all of it within {self._limit_seconds:g} seconds. What it has"
                " stays there, and the next publish goes on from that.",
                subject=bucket.name,
                phase="bucket",
            )
        except CertorbitError as caught:
            error = caught
        else:
            removed = await _remove(bucket, objects, plan.remove, deadline=deadline)
            log.info(
                "publish.done",
                configuration=config,
                version=snapshot.configuration.version,
                bucket=bucket.name,
                objects=plan.count,
                written=len(plan.write),
                removed=removed,
                unavailable=snapshot.unavailable,
            )
            return BucketReport(
                name=bucket.name, url=bucket.url, objects=plan.count, written=len(plan.write), removed=removed
            )
        log.warning("publish.failed", configuration=config, bucket=bucket.name, message=error.message)
        return _Failure(bucket.name, error)

    async def _bring_up_to_date(
        self, bucket: Bucket, snapshot: EdgeSnapshot, *, objects: str, recipient: Recipient
    ) -> BundlePlan:
        """Write the bundle and return what it was made by; what the plan removes is still there."""
        folder = folder_of(snapshot.configuration.id)
        stored = await bucket.read(folder, MANIFEST, most_bytes=LARGEST_MANIFEST)
        present = await bucket.list_sizes(objects)
        # Thousands of keys are seconds of CPU.
        plan = await asyncio.to_thread(
            self._plan, snapshot, stored=stored, present=present, recipient=recipient, bucket=bucket.name
        )
        await _write_all(bucket, objects, plan.write)
        # Only now: whoever reads the manifest finds every object that it names.
        await bucket.replace(folder, MANIFEST, plan.manifest, instead_of=stored)
        return plan

    def _plan(
        self,
        snapshot: EdgeSnapshot,
        *,
        stored: StoredObject | None,
        present: Mapping[str, int],
        recipient: Recipient,
        bucket: str,
    ) -> BundlePlan:
        earlier = read_earlier(stored.content) if stored else None
        if stored is not None and earlier is None:
            log.warning("publish.manifest_damaged", configuration=snapshot.configuration.id, bucket=bucket)

        def seal(version: Version, binding: str) -> bytes:
            assert version.sealed_key is not None
            key = self._keyring.open(version.sealed_key, context=key_context(version.id))
            return recipient.seal(key, binding=binding)

        return plan_bundle(
            snapshot,
            earlier=earlier or Earlier(),
            present=present,
            recipient=recipient.id,
            seal=seal,
            now=self._clock.now(),
            grace=timedelta(seconds=self._settings.grace_seconds),
        )


async def _write_all(bucket: Bucket, folder: str, objects: Mapping[str, bytes]) -> None:
    """Write the objects, some at once; stop at the first that fails, and raise that."""
    waiting = iter(objects.items())
    failures: list[CertorbitError] = []

    async def work() -> None:
        for name, content in waiting:
            if failures:
                return
            try:
                await bucket.write(folder, name, content)
            except CertorbitError as error:
                failures.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_WRITES_AT_ONCE, len(objects))):
            group.create_task(work())
    if failures:
        raise failures[0]


async def _remove(bucket: Bucket, folder: str, names: Sequence[str], *, deadline: float) -> int:
    """Remove what nobody needs any more. If that fails, the bundle is complete all the same, and the next one tries."""
    try:
        async with asyncio.timeout_at(deadline):
            await bucket.remove(folder, names)
    except (Outside, Refused, TimeoutError) as error:
        log.warning("publish.not_removed", bucket=bucket.name, count=len(names), message=str(error))
        return 0
    return len(names)


def _sum_up(config: ConfigID, done: Sequence[BucketReport], failed: Sequence[_Failure]) -> CertorbitError:
    """Return one error that says which buckets have the bundle and which have not, and why."""
    written = ", ".join(repr(report.name) for report in done) or "none"
    message = (
        f"Not every bucket has the bundle of configuration {config!r}. Written: {written}. Not written: "
        + ", ".join(repr(failure.bucket) for failure in failed)
        + ". "
        + " ".join(failure.error.message for failure in failed)
    )
    errors = [failure.error for failure in failed]
    if all(isinstance(error, Publishing) for error in errors):
        return Publishing(message, subject="config")
    if any(isinstance(error, BadInput) for error in errors):
        return BadInput(message, subject="buckets")
    return Unreachable(message, subject=failed[0].bucket, phase="bucket")

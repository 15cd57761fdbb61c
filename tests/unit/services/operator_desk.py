"""What the tests of renewals, versions and revocations share: issuers, and entries that have been issued."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from desk import BY, PROD, SHOP, Desk, make_generate

from certorbit.errors import CertorbitError, RetryRule
from certorbit.model.entry import Entry, EntryID, Source, Version, VersionID, key_context
from certorbit.model.identifiers import Identifier, hash_identifiers
from certorbit.model.operation import Operation, OperationID, OperationState, Problem
from certorbit.model.order import OrderID, OrderIntent
from certorbit.model.schedule import Schedule
from certorbit.pki.upload import read_upload
from certorbit.ports.issuer import Issuer
from certorbit.ports.store import UnitOfWork
from certorbit.services import renewals, versions
from certorbit.services.permitting import ConfigIssuers
from make import make_chain

DOWN = Problem("The CA is down.", "Unreachable", "down", {}, RetryRule.BACKOFF, keeps_order=True)


@dataclass
class FakeIssuer:
    """What these use-cases ask of an issuer. revoked: what it was told to revoke. problem: what it says instead."""

    name: str
    directory: str = "https://ca.example.test/directory"
    can_issue_wildcards: bool = False
    revoked: list[tuple[str, int]] = field(default_factory=list)
    problem: CertorbitError | None = None

    def covers(self, identifier: Identifier) -> bool:
        return self.can_issue_wildcards or not identifier.is_wildcard

    async def revoke(self, chain_pem: str, *, reason: int) -> None:
        if self.problem is not None:
            raise self.problem
        self.revoked.append((chain_pem, reason))


def make_issuers(*names: str) -> list[Issuer]:
    return [cast("Issuer", FakeIssuer(name)) for name in names]


ISSUERS = make_issuers("first", "second")


async def issue(
    desk: Desk, operation_id: OperationID, *, issuer: str = "first", key_index: int = 0, days: float = 90
) -> Version:
    """Let the operation end with a certificate, as the workflow does it."""
    operation = await desk.operation(operation_id)
    chain = make_chain(names=operation.identifiers, key_index=key_index, days=days, now=desk.clock.now())
    material = read_upload(chain.chain_pem, chain.key_pem, side=make_generate().side)
    assert material.key is not None
    version_id = VersionID(desk.new_id())
    version = Version(
        id=version_id,
        entry_uid=operation.entry_uid,
        created_at=desk.clock.now(),
        source=Source.GENERATED,
        chain_pem=material.chain_pem,
        sealed_key=desk.keyring.seal(material.key.reveal().encode(), context=key_context(version_id)),
        facts=material.facts,
        le_hash=hash_identifiers(operation.identifiers),
        issuer_name=issuer,
    )
    done = replace(
        operation, state=OperationState.SUCCEEDED, finished_at=desk.clock.now(), issuer_name=issuer, problem=None
    )

    def write(tx: UnitOfWork) -> None:
        tx.entries.add_version(version)
        tx.operations.update(done)

    await desk.store.write(write)
    return version


async def make_issued(desk: Desk, *, le_auto_renew: bool = True, days: float = 90) -> Version:
    """Return the first version of the entry `shop`."""
    operation_id = await desk.generate(make_generate(le_auto_renew=le_auto_renew))
    assert operation_id is not None
    return await issue(desk, operation_id, days=days)


async def wait_after_failure(desk: Desk, operation_id: OperationID, *, with_order: bool = False) -> Operation:
    """Let the operation's attempt fail, so that it waits; with_order: the CA still has its order."""
    operation = await desk.operation(operation_id)
    waiting = replace(
        operation,
        state=OperationState.WAITING,
        attempt=operation.attempt + 1,
        issuer_name=operation.issuer_name or "first",
        next_attempt_at=desk.clock.now().replace(year=2027),
        problem=DOWN,
    )
    intent = OrderIntent(
        id=OrderID(f"order-of-{operation_id}"),
        operation=operation_id,
        attempt=waiting.attempt,
        issuer_name=waiting.issuer_name,
        account="https://ca.example.test/directory",
        identifiers=operation.identifiers,
        identifiers_hash=hash_identifiers(operation.identifiers),
        sealed_key=b"sealed",
        url="https://ca.example.test/order/1",
        requests=1,
        created_at=desk.clock.now(),
    )

    def write(tx: UnitOfWork) -> None:
        tx.operations.update(waiting)
        if with_order:
            tx.orders.add(intent)

    await desk.store.write(write)
    return waiting


async def renew(desk: Desk, *, issuer: str = "", issuers: list[Issuer] = ISSUERS, entry_id: str = SHOP) -> Operation:
    return await write_now(
        desk,
        lambda tx: renewals.renew_now(
            tx,
            PROD,
            make_generate(entry_id).id,
            issuer=issuer,
            issuers=ConfigIssuers(issuers),
            now=desk.clock.now(),
            new_id=desk.new_id,
        ),
    )


async def change_schedule(
    desk: Desk, *, paused: bool | None = None, issuer: str | None = None, issuers: list[Issuer] = ISSUERS
) -> None:
    await desk.store.write(
        lambda tx: renewals.change_schedule(
            tx, PROD, SHOP, paused=paused, issuer=issuer, issuers=ConfigIssuers(issuers), now=desk.clock.now()
        )
    )


async def retry(desk: Desk, operation_id: str, *, issuers: list[Issuer] = ISSUERS) -> Operation:
    return await write_now(
        desk,
        lambda tx: renewals.retry_operation(
            tx, OperationID(operation_id), issuers=ConfigIssuers(issuers), now=desk.clock.now()
        ),
    )


async def cancel(desk: Desk, operation_id: str) -> renewals.Cancelled:
    return await desk.store.write(
        lambda tx: renewals.cancel_operation(tx, OperationID(operation_id), by=BY, now=desk.clock.now())
    )


async def get_status(desk: Desk) -> renewals.RenewalStatus:
    return await desk.store.read(
        lambda tx: renewals.get_status(tx, PROD, SHOP, issuers=ConfigIssuers(ISSUERS), now=desk.clock.now())
    )


async def roll_back(desk: Desk, version_id: str, *, entry_id: str = SHOP, force: bool = False) -> Version:
    return await desk.store.write(
        lambda tx: versions.roll_back(
            tx,
            PROD,
            EntryID(entry_id),
            VersionID(version_id),
            force=force,
            by=BY,
            now=desk.clock.now(),
            new_id=desk.new_id,
        )
    )


async def write_now(desk: Desk, work: Callable[[UnitOfWork], Operation]) -> Operation:
    return await desk.store.write(work)


async def schedule_of(desk: Desk) -> Schedule:
    entry = await found(desk)
    schedule = await desk.store.read(lambda tx: tx.schedules.find(entry.uid))
    assert schedule is not None
    return schedule


async def found(desk: Desk) -> Entry:
    entry = await desk.find()
    assert entry is not None
    return entry

"""Refused attempts are written down in a bounded number of records, however many there are."""

import asyncio

from certorbit.api.refused_attempts import MOST_KINDS, WINDOW, RefusedAttempts
from certorbit.errors import NotAllowed
from certorbit.model.audit import Actor, ActorKind, AuditQuery, AuditRecord
from certorbit.ports.audit import acting_as
from certorbit.storage import SQLStore
from fakes.clock import FakeClock

SCOPE = {"path": "/api/v4/conf/prod/certificates/www", "path_params": {"config": "prod"}}


def alice(number: int = 0) -> Actor:
    return Actor(ActorKind.API_KEY, "alice", key_id="k1", address=f"192.0.2.{number}", method="DELETE", route="/r")


async def refuse(refused: RefusedAttempts, actor: Actor, *, times: int = 1) -> None:
    with acting_as(actor):
        for _ in range(times):
            await refused.note_request(NotAllowed("no", subject="write"), SCOPE)


async def records(store: SQLStore) -> list[AuditRecord]:
    found = await store.read(lambda tx: tx.audit.list(AuditQuery(), before=None, limit=1000))
    return list(reversed(found))


async def test_the_first_of_a_kind_is_written_at_once_the_others_when_the_minute_is_over(
    store: SQLStore, clock: FakeClock
) -> None:
    refused = RefusedAttempts(store=store, clock=clock)
    await refuse(refused, alice(), times=5)
    (first,) = await records(store)
    assert (first.actor.name, first.event.config) == ("alice", "prod")
    clock.advance(1)
    await refuse(refused, alice(), times=2)
    await refused.flush()
    _, rest = await records(store)
    assert rest.actor == first.actor
    assert rest.event.details["count"] == 6
    assert rest.event.details["last"] > rest.event.details["first"]
    await refused.flush()
    assert len(await records(store)) == 2


async def test_the_minute_ends_by_itself(store: SQLStore, clock: FakeClock) -> None:
    refused = RefusedAttempts(store=store, clock=clock)
    refused.note_failure(reason="unknown", address="192.0.2.9")
    assert await records(store) == []
    while not clock.sleepers:
        await asyncio.sleep(0)
    clock.advance(WINDOW.total_seconds())
    while not (found := await records(store)):
        await asyncio.sleep(0)
    (record,) = found
    assert (record.actor.kind, record.actor.address) == (ActorKind.STRANGER, "192.0.2.9")
    assert (record.event.details["reason"], record.event.details["count"]) == ("unknown", 1)


async def test_keys_that_are_not_taken_are_one_record_for_each_place_they_come_from(
    store: SQLStore, clock: FakeClock
) -> None:
    refused = RefusedAttempts(store=store, clock=clock)
    for number in range(500):
        refused.note_failure(reason="unknown", address=f"2001:db8::{number:x}")
    refused.note_failure(reason="slowed", address="2001:db8::1")
    await refused.flush()
    counts = {(r.actor.address, r.event.details["reason"]): r.event.details["count"] for r in await records(store)}
    assert counts == {("2001:db8::/64", "unknown"): 500, ("2001:db8::/64", "slowed"): 1}


async def test_many_kinds_are_counted_together(store: SQLStore, clock: FakeClock) -> None:
    refused = RefusedAttempts(store=store, clock=clock)
    for number in range(1000):
        refused.note_failure(reason="unknown", address=f"198.51.{number // 250}.{number % 250}")
    for number in range(200):
        await refuse(refused, alice(number))
    await refused.flush()
    found = await records(store)
    assert len(found) == MOST_KINDS + 2
    assert sum(record.event.details.get("count", 1) for record in found) == 1200


async def test_a_database_that_is_gone_changes_no_answer(store: SQLStore, clock: FakeClock) -> None:
    refused = RefusedAttempts(store=store, clock=clock)

    def drop() -> None:
        with store.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE audit_records")

    await asyncio.to_thread(drop)
    await refuse(refused, alice())

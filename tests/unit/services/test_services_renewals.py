"""Renew now, retry, cancel, pause, another issuer; versions and the way back."""

from dataclasses import replace

import pytest
from desk import PROD, SHOP, Desk, make_generate, make_upload
from operator_desk import (
    ISSUERS,
    FakeIssuer,
    cancel,
    change_schedule,
    found,
    get_status,
    issue,
    make_issued,
    renew,
    retry,
    roll_back,
    schedule_of,
    wait_after_failure,
)

from certorbit.errors import BadIdentifier, BadInput, BuiltIn, InUse, IssuanceFailed, NotFound
from certorbit.model.ca_limits import AccountKey
from certorbit.model.entry import PLACEHOLDER, Side, VersionID
from certorbit.model.identifier_failure import IdentifierFailure
from certorbit.model.operation import OperationID, OperationKind, OperationState, new_operation
from certorbit.pki.selfsigned import make_placeholder
from certorbit.ports.store import JobKind
from certorbit.services import configurations, promises, versions
from records import make_problem


async def note_failing(desk: Desk, name: str) -> AccountKey:
    """Remember that the name fails for a day."""
    account, now = AccountKey("https://ca.example.test/directory", "first"), desk.clock.now()
    failure = IdentifierFailure(account, name, 4, 4, now, now, now.replace(year=2027), "NXDOMAIN")
    await desk.store.write(lambda tx: tx.failures.add([failure]))
    return account


async def test_a_renewal_by_hand_is_an_operation_with_its_workflow(desk: Desk) -> None:
    await make_issued(desk)
    operation = await renew(desk)
    assert (operation.kind, operation.state, operation.attempt) == (OperationKind.RENEW, OperationState.QUEUED, 1)
    assert operation.promised
    assert operation.issuer_name == ""
    assert desk.jobs[-1].workflow_id == operation.workflow_id
    assert await desk.operation(operation.id) == operation


async def test_an_uploaded_certificate_is_replaced_under_normalised_names(desk: Desk) -> None:
    await desk.upload(make_upload())
    operation = await renew(desk)
    assert (operation.kind, operation.identifiers) == (OperationKind.REPLACE, ("www.example.com",))


async def test_the_issuer_is_the_forced_one_else_the_chosen_one(desk: Desk) -> None:
    await make_issued(desk)
    await change_schedule(desk, issuer="second")
    chosen = await renew(desk)
    assert chosen.issuer_name == "second"
    await cancel(desk, chosen.id)
    assert (await renew(desk, issuer="first")).issuer_name == "first"


async def test_an_issuer_that_does_not_exist_is_refused_with_those_that_do(desk: Desk) -> None:
    await make_issued(desk)
    with pytest.raises(BadInput, match="none named 'third'; there are first, second"):
        await renew(desk, issuer="third")
    with pytest.raises(BadInput, match="there are first, second"):
        await change_schedule(desk, issuer="third")


async def test_an_issuer_without_a_solver_for_a_name_is_refused(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate(SHOP, "*.example.com"), covers=lambda _: True)
    assert operation_id is not None
    await issue(desk, operation_id)
    with pytest.raises(BadIdentifier, match=r"'first' has no solver for \*\.example\.com"):
        await renew(desk)
    able = [*ISSUERS[:1], FakeIssuer("dns", can_issue_wildcards=True)]
    assert (await renew(desk, issuer="dns", issuers=able)).issuer_name == "dns"  # type: ignore[arg-type]


async def test_a_ca_bundle_and_the_placeholder_are_never_renewed(desk: Desk) -> None:
    await desk.upload(make_upload(side=Side.CLIENT_CA))
    with pytest.raises(BadInput, match="uploaded, never renewed"):
        await renew(desk)
    with pytest.raises(BadInput, match="uploaded, never renewed"):
        await change_schedule(desk, paused=True)
    now = desk.clock.now()
    await desk.store.write(
        lambda tx: configurations.ensure_built_in(
            tx, lambda: make_placeholder(now=now), now=now, new_id=desk.new_id, keyring=desk.keyring
        )
    )
    with pytest.raises(BuiltIn):
        await renew(desk, entry_id=PLACEHOLDER)
    with pytest.raises(NotFound):
        await renew(desk, entry_id="unknown")


async def test_renewing_again_starts_the_waiting_attempt_now_and_keeps_its_order(desk: Desk) -> None:
    await make_issued(desk)
    first = await renew(desk)
    with pytest.raises(InUse, match=f"under way for 'shop' .operation {first.id}."):
        await renew(desk)
    waiting = await wait_after_failure(desk, first.id, with_order=True)
    again = await renew(desk)
    assert (again.id, again.attempt, again.state) == (first.id, waiting.attempt + 1, OperationState.QUEUED)
    assert again.next_attempt_at is None
    assert desk.jobs[-1].workflow_id == f"{first.id}.{again.attempt}"
    assert desk.jobs[-1].delay_seconds == 0
    carried = await desk.store.read(lambda tx: tx.orders.find(again.id, again.attempt))
    assert carried is not None
    assert carried.sealed_key == b"sealed"


async def test_another_issuer_does_not_get_the_order_of_the_first(desk: Desk) -> None:
    await make_issued(desk)
    first = await renew(desk)
    waiting = await wait_after_failure(desk, first.id, with_order=True)
    again = await renew(desk, issuer="second")
    assert again.issuer_name == "second"
    assert await desk.store.read(lambda tx: tx.orders.find(again.id, again.attempt)) is None
    left = await desk.store.read(lambda tx: tx.orders.find(again.id, waiting.attempt))
    assert left is not None
    assert left.sealed_key == b""


async def test_an_operators_word_lets_names_that_failed_be_tried_at_once(desk: Desk) -> None:
    await make_issued(desk)
    account = await note_failing(desk, "www.example.com")
    operation = await renew(desk)
    assert await desk.store.read(lambda tx: tx.failures.find(account, operation.identifiers)) == []
    await wait_after_failure(desk, operation.id)
    await note_failing(desk, "www.example.com")
    await retry(desk, operation.id)
    assert await desk.store.read(lambda tx: tx.failures.find(account, operation.identifiers)) == []


async def test_retrying_a_deployment_forgets_nothing_of_names_that_fail_at_a_ca(desk: Desk) -> None:
    await make_issued(desk)
    account = await note_failing(desk, "www.example.com")
    now = desk.clock.now()
    entry = await desk.store.read(lambda tx: tx.entries.find(PROD, SHOP))
    assert entry is not None
    operation = new_operation(entry, OperationKind.DEPLOY, id=OperationID("deployment"), now=now)
    await desk.store.write(lambda tx: tx.operations.add(operation))
    with pytest.raises(InUse):
        await retry(desk, operation.id)
    waiting = operation.wait_until(now.replace(year=2027), make_problem(), now=now)
    await desk.store.write(lambda tx: tx.operations.update(waiting))
    started = await retry(desk, operation.id)
    assert (started.state, started.attempt) == (OperationState.QUEUED, 3)
    assert desk.jobs[-1].kind is JobKind.DEPLOY
    assert len(await desk.store.read(lambda tx: tx.failures.find(account, operation.identifiers))) == 1


async def test_only_what_waits_can_be_retried(desk: Desk) -> None:
    await make_issued(desk)
    operation = await renew(desk)
    with pytest.raises(InUse):
        await retry(desk, operation.id)
    await issue(desk, operation.id)
    with pytest.raises(BadInput, match=r"over \(succeeded\)"):
        await retry(desk, operation.id)
    with pytest.raises(NotFound):
        await retry(desk, "unknown")


async def test_cancelling_a_renewal_leaves_the_certificate_and_drops_the_new_key(desk: Desk) -> None:
    version = await make_issued(desk)
    operation = await renew(desk)
    waiting = await wait_after_failure(desk, operation.id, with_order=True)
    cancelled = await cancel(desk, operation.id)
    assert (cancelled.operation.state, cancelled.entry_is_gone) == (OperationState.CANCELLED, False)
    assert (await found(desk)).current == version
    order = await desk.store.read(lambda tx: tx.orders.find(operation.id, waiting.attempt))
    assert order is not None
    assert order.sealed_key == b""
    assert await cancel(desk, operation.id) == cancelled
    assert (await renew(desk)).id != operation.id


async def test_cancelling_a_first_issuance_deletes_its_entry(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate())
    assert operation_id is not None
    before = (await desk.configuration()).version
    cancelled = await cancel(desk, operation_id)
    assert cancelled.entry_is_gone
    assert await desk.find() is None
    assert (await desk.configuration()).version == before + 1
    assert (await cancel(desk, operation_id)).entry_is_gone
    with pytest.raises(IssuanceFailed, match="was deleted while"):
        promises.settle(await desk.operation(operation_id))


async def test_what_is_over_is_not_cancelled(desk: Desk) -> None:
    await make_issued(desk)
    operation = await renew(desk)
    await issue(desk, operation.id)
    with pytest.raises(BadInput, match="nothing to cancel"):
        await cancel(desk, operation.id)


async def test_pausing_and_choosing_leave_each_other_alone(desk: Desk) -> None:
    await make_issued(desk)
    await change_schedule(desk, paused=True)
    await change_schedule(desk, issuer="second")
    schedule = await schedule_of(desk)
    assert (schedule.paused, schedule.issuer, schedule.look_at) == (True, "second", desk.clock.now())
    await change_schedule(desk, paused=False)
    await change_schedule(desk, issuer="")
    schedule = await schedule_of(desk)
    assert (schedule.paused, schedule.issuer) == (False, "")


async def test_choosing_another_issuer_lets_what_waits_start_with_it(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate())
    assert operation_id is not None
    await wait_after_failure(desk, operation_id)
    await change_schedule(desk, issuer="second")
    started = await desk.operation(operation_id)
    assert (started.state, started.issuer_name) == (OperationState.QUEUED, "second")
    await change_schedule(desk, issuer="second")
    assert await desk.operation(operation_id) == started
    await wait_after_failure(desk, operation_id)
    await change_schedule(desk, issuer="")
    assert (await desk.operation(operation_id)).issuer_name == "first"


async def test_the_status_shows_the_unfinished_operation_of_this_very_entry(desk: Desk) -> None:
    version = await make_issued(desk)
    operation = await renew(desk)
    status = await get_status(desk)
    assert status.unfinished == operation
    assert status.entry.current == version
    await issue(desk, operation.id)
    assert (await get_status(desk)).unfinished is None


async def test_versions_are_listed_newest_first_and_compared(desk: Desk) -> None:
    first = await make_issued(desk)
    desk.clock.advance(days=60)
    operation = await renew(desk)
    second = await issue(desk, operation.id, issuer="second", key_index=1)
    entry, listed = await desk.store.read(lambda tx: versions.list_versions(tx, PROD, SHOP))
    assert [version.id for version in listed] == [second.id, first.id]
    assert entry.current == second
    difference = await desk.store.read(lambda tx: versions.compare(tx, PROD, SHOP, before=first.id, after=second.id))
    assert (difference.names_added, difference.names_removed) == ((), ())
    assert [change.field for change in difference.changes] == ["not_before", "not_after", "issuer", "public_key_sha256"]
    issuer = difference.changes[2]
    assert (issuer.before, issuer.after) == ("first", "second")
    same = await desk.store.read(lambda tx: versions.compare(tx, PROD, SHOP, before=first.id, after=first.id))
    assert same.changes == ()
    with pytest.raises(NotFound, match="no version 'unknown'"):
        await desk.store.read(lambda tx: versions.compare(tx, PROD, SHOP, before=first.id, after=VersionID("unknown")))


async def test_rolling_back_serves_the_older_version_and_pauses_the_renewal(desk: Desk) -> None:
    first = await make_issued(desk)
    desk.clock.advance(days=60)
    second = await issue(desk, (await renew(desk)).id)
    entry = await found(desk)
    decided = replace(await schedule_of(desk), renew_at=desk.clock.now(), reason="fraction", issuer="second")
    await desk.store.write(lambda tx: tx.schedules.put(decided))
    before = (await desk.configuration()).version
    for _ in range(2):  # a repeat changes nothing
        assert await roll_back(desk, first.id) == first
        assert (await found(desk)).current == first
        schedule = await schedule_of(desk)
        assert (schedule.paused, schedule.renew_at, schedule.reason) == (True, None, "")
        assert (schedule.issuer, schedule.look_at) == ("second", desk.clock.now())
    assert (await desk.configuration()).version == before + 1
    listed = await desk.store.read(lambda tx: tx.entries.list_versions(entry.uid))
    assert [version.id for version in listed] == [second.id, first.id]
    assert await roll_back(desk, second.id) == second


async def test_what_can_not_be_served_is_not_rolled_back_to(desk: Desk) -> None:
    first = await make_issued(desk, days=30)
    operation = await renew(desk)
    with pytest.raises(InUse, match=f"cancel it .operation {operation.id}."):
        await roll_back(desk, first.id)
    second = await issue(desk, operation.id)
    desk.clock.advance(days=30)
    with pytest.raises(BadInput, match="ended on 2026-12-24"):
        await roll_back(desk, first.id)
    with pytest.raises(NotFound, match="no version"):
        await roll_back(desk, "unknown")
    assert (await found(desk)).current == second

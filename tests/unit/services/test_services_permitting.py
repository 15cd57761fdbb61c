"""Nobody is handed to the built-in CA, or served a revoked certificate, unless an operator says so of it."""

from typing import cast

import pytest
from desk import PROD, SHOP, Desk, make_generate, make_upload
from operator_desk import (
    ISSUERS,
    FakeIssuer,
    cancel,
    change_schedule,
    get_status,
    issue,
    make_issued,
    renew,
    retry,
    roll_back,
    wait_after_failure,
)

from certorbit.errors import BadInput
from certorbit.model.entry import EntryID
from certorbit.model.operation import OperationKind, OperationState
from certorbit.model.revocation import RevocationReason
from certorbit.ports.issuer import Issuer
from certorbit.services import revocation, versions


async def test_a_revoked_version_is_rolled_back_to_only_by_force(desk: Desk) -> None:
    first = await make_issued(desk)
    await issue(desk, (await renew(desk)).id)
    command = revocation.Revocation(
        config=PROD, entry=EntryID(SHOP), version=first.id, reason=RevocationReason.SUPERSEDED
    )
    await revocation.revoke(command, store=desk.store, issuers=ISSUERS, clock=desk.clock, new_id=desk.new_id)
    with pytest.raises(BadInput, match=r"is revoked: clients .* Renew the certificate instead"):
        await roll_back(desk, first.id)
    listed = await desk.store.read(lambda tx: versions.list_versions(tx, PROD, EntryID(SHOP))[1])
    revoked = await desk.store.read(lambda tx: versions.list_revoked(tx, listed, now=desk.clock.now()))
    assert revoked == {first.id}
    assert await roll_back(desk, first.id, force=True) == first
    assert (await get_status(desk)).is_revoked


# --- who may issue ---------------------------------------------------------------------------------

ALONE = [cast("Issuer", FakeIssuer("internal", directory="internal"))]


async def test_what_a_ca_made_is_renewed_by_hand_by_the_built_in_one_only_if_it_is_named(desk: Desk) -> None:
    await make_issued(desk)
    with pytest.raises(BadInput, match=r"Nobody may issue for 'shop' now. .* 'first', which is not configured"):
        await renew(desk, issuers=ALONE)
    named = await renew(desk, issuer="internal", issuers=ALONE)
    assert named.issuer_name == "internal"
    await cancel(desk, named.id)
    with pytest.raises(BadInput, match="Nobody may issue"):
        await renew(desk, issuers=ALONE)


async def test_an_upload_is_replaced_by_hand_by_what_there_is(desk: Desk) -> None:
    await desk.upload(make_upload())
    operation = await renew(desk, issuers=ALONE)
    assert (operation.kind, operation.issuer_name) == (OperationKind.REPLACE, "internal")


async def test_a_request_to_a_ca_that_is_gone_is_retried_by_nobody_else(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate())
    assert operation_id is not None
    waiting = await wait_after_failure(desk, operation_id)
    assert waiting.issuer_name == "first"
    for issuers in (ALONE, [*ALONE, cast("Issuer", FakeIssuer("other", can_issue_wildcards=True))]):
        if issuers is ALONE:
            with pytest.raises(BadInput, match="Nobody may issue for 'shop' now"):
                await retry(desk, operation_id, issuers=issuers)
            with pytest.raises(BadInput, match="Nobody may issue"):
                await renew(desk, issuers=issuers)
            assert await desk.operation(operation_id) == waiting
        else:
            assert (await retry(desk, operation_id, issuers=issuers)).state is OperationState.QUEUED


async def test_taking_a_choice_back_hands_nothing_to_the_built_in_ca(desk: Desk) -> None:
    await make_issued(desk)
    await change_schedule(desk, issuer="second")
    operation = await renew(desk)
    waiting = await wait_after_failure(desk, operation.id)
    with pytest.raises(BadInput, match="Nobody may issue"):
        await change_schedule(desk, issuer="", issuers=ALONE)
    assert await desk.operation(operation.id) == waiting


async def test_an_attempt_that_is_overtaken_or_given_up_before_it_begins_is_not_counted(desk: Desk) -> None:
    await make_issued(desk)
    operation = await renew(desk)
    assert operation.attempts_begun == 1
    waiting = await wait_after_failure(desk, operation.id)
    assert (waiting.attempt, waiting.attempts_begun) == (2, 1)
    again = await retry(desk, operation.id)
    assert (again.attempt, again.attempts_begun, again.overtaken) == (3, 2, (2,))
    assert desk.jobs[-1].workflow_id == f"{operation.id}.3", "the second one's workflow may begin at any moment"
    await wait_after_failure(desk, operation.id)
    given_up = await cancel(desk, operation.id)
    assert (given_up.operation.attempt, given_up.operation.attempts_begun) == (4, 2)
    assert [given_up.operation.count_attempts(number) for number in (1, 3)] == [1, 2]

"""Revoking at the CA, and what takes the certificate's place."""

import asyncio

import pytest
from desk import PROD, SHOP, Desk, make_generate, make_upload
from operator_desk import FakeIssuer, issue, make_issued, renew, wait_after_failure

from certorbit.errors import BadInput, IssuerRefused, NotFound, RateLimited, Unreachable
from certorbit.model.audit import Action, AuditQuery
from certorbit.model.entry import VersionID
from certorbit.model.operation import OperationKind, OperationState
from certorbit.model.revocation import RevocationReason
from certorbit.services import revocation

COMPROMISE, SUPERSEDED = RevocationReason.KEY_COMPROMISE, RevocationReason.SUPERSEDED


@pytest.fixture
def ca() -> FakeIssuer:
    return FakeIssuer("first")


async def revoke(
    desk: Desk,
    *issuers: FakeIssuer,
    reason: RevocationReason = SUPERSEDED,
    version: str | None = None,
    limit_seconds: float = 20.0,
) -> revocation.Revoked:
    command = revocation.Revocation(
        config=PROD, entry=SHOP, version=VersionID(version) if version else None, reason=reason
    )
    return await revocation.revoke(
        command,
        store=desk.store,
        issuers=issuers,  # type: ignore[arg-type]
        clock=desk.clock,
        new_id=desk.new_id,
        limit_seconds=limit_seconds,
    )


async def test_the_ca_is_told_and_a_replacement_starts(desk: Desk, ca: FakeIssuer) -> None:
    version = await make_issued(desk)
    revoked = await revoke(desk, FakeIssuer("other"), ca)
    assert ca.revoked == [(version.chain_pem, 4)]
    assert revoked.version == version.id
    assert revoked.operation is not None
    operation = await desk.operation(revoked.operation)
    assert (operation.kind, operation.state) == (OperationKind.RENEW, OperationState.QUEUED)


async def test_what_does_not_renew_by_itself_is_not_replaced(desk: Desk, ca: FakeIssuer) -> None:
    await make_issued(desk, le_auto_renew=False)
    jobs = len(desk.jobs)
    assert (await revoke(desk, ca)).operation is None
    assert len(ca.revoked) == 1
    assert len(desk.jobs) == jobs


async def test_a_repeat_with_the_versions_id_revokes_nothing_else(desk: Desk, ca: FakeIssuer) -> None:
    first = await make_issued(desk)
    started = await revoke(desk, ca, version=first.id)
    again = await revoke(desk, ca, version=first.id)
    assert again == started
    assert started.operation is not None
    await issue(desk, started.operation, key_index=1)
    late = await revoke(desk, ca, version=first.id)
    assert (late.version, late.operation) == (first.id, None)
    assert {chain for chain, _ in ca.revoked} == {first.chain_pem}


async def test_a_replacement_that_waits_starts_now(desk: Desk, ca: FakeIssuer) -> None:
    await make_issued(desk)
    operation = await renew(desk)
    waiting = await wait_after_failure(desk, operation.id)
    assert (await revoke(desk, ca)).operation == operation.id
    assert (await desk.operation(operation.id)).attempt == waiting.attempt + 1


async def test_after_a_compromise_the_replacement_has_a_new_key_for_sure(desk: Desk, ca: FakeIssuer) -> None:
    await make_issued(desk)
    under_way = await renew(desk)  # by the settings it may be about to reuse the key
    revoked = await revoke(desk, ca, reason=COMPROMISE)
    assert (await desk.operation(under_way.id)).state is OperationState.CANCELLED
    assert revoked.operation is not None
    rekey = await desk.operation(revoked.operation)
    assert rekey.kind is OperationKind.REKEY
    assert (await revoke(desk, ca, reason=COMPROMISE)).operation == rekey.id


@pytest.mark.parametrize(
    ("reason", "key_index", "kind"),
    [(COMPROMISE, 0, OperationKind.REKEY), (COMPROMISE, 1, None), (SUPERSEDED, 0, None)],
    ids=["the same key is compromised, too", "another key is in use", "only the old version is out of use"],
)
async def test_an_older_versions_revocation_touches_the_current_one_only_by_its_key(
    desk: Desk, ca: FakeIssuer, reason: RevocationReason, key_index: int, kind: OperationKind | None
) -> None:
    first = await make_issued(desk)
    await issue(desk, (await renew(desk)).id, key_index=key_index)
    revoked = await revoke(desk, ca, reason=reason, version=first.id)
    operation = await desk.operation(revoked.operation) if revoked.operation else None
    assert (operation.kind if operation else None) is kind


async def test_the_cas_refusal_is_the_clients_error_and_changes_nothing(desk: Desk, ca: FakeIssuer) -> None:
    await make_issued(desk)
    jobs = len(desk.jobs)
    ca.problem = IssuerRefused("The CA refused: bad reason.", type="urn:badRevocationReason", detail="bad reason")
    with pytest.raises(BadInput, match="The CA refused: bad reason"):
        await revoke(desk, ca)
    ca.problem = RateLimited("Too often.", type="urn:rateLimited", detail="Too often.")
    with pytest.raises(RateLimited):
        await revoke(desk, ca)
    ca.problem = Unreachable("The CA is away.", subject="ca", phase="connect")
    with pytest.raises(Unreachable):
        await revoke(desk, ca)
    assert len(desk.jobs) == jobs


async def test_a_ca_that_takes_too_long_is_not_waited_for(desk: Desk) -> None:
    class Silent(FakeIssuer):
        async def revoke(self, chain_pem: str, *, reason: int) -> None:
            await asyncio.Event().wait()

    version = await make_issued(desk)
    with pytest.raises(Unreachable, match=f"name the version {version.id}"):
        await revoke(desk, Silent("first"), limit_seconds=0.01)


async def test_only_what_an_issuer_of_ours_made_can_be_revoked(desk: Desk, ca: FakeIssuer) -> None:
    await desk.upload(make_upload())
    with pytest.raises(BadInput, match="was uploaded"):
        await revoke(desk, ca)
    await desk.delete()
    with pytest.raises(NotFound):
        await revoke(desk, ca)
    await desk.generate(make_generate())
    with pytest.raises(BadInput, match="not issued yet"):
        await revoke(desk, ca)
    await desk.delete()
    await make_issued(desk)
    with pytest.raises(BadInput, match="'first', which made this version, is not configured any more"):
        await revoke(desk, FakeIssuer("other"))
    with pytest.raises(NotFound, match="no version"):
        await revoke(desk, ca, version="unknown")


async def actions(desk: Desk) -> list[tuple[Action, str]]:
    """Return what the audit trail has of revocations, the oldest first: the action, and what the CA said."""
    records = await desk.store.read(lambda tx: tx.audit.list(AuditQuery(object=SHOP), before=None, limit=50))
    wanted = {Action.REVOCATION_ASKED, Action.REVOCATION_FAILED, Action.CERTIFICATE_REVOKED}
    found = [record.event for record in records if record.event.action in wanted]
    return [(event.action, str(event.details.get("problem", ""))) for event in reversed(found)]


async def test_the_audit_trail_says_so_before_the_ca_is_asked_so_a_death_between_leaves_a_record(desk: Desk) -> None:
    seen: list[object] = []

    class Deadly(FakeIssuer):
        async def revoke(self, chain_pem: str, *, reason: int) -> None:
            await super().revoke(chain_pem, reason=reason)
            seen.extend(await actions(desk))
            raise asyncio.CancelledError  # the process ends here: nothing of ours is run any more

    ca = Deadly("first")
    version = await make_issued(desk)
    with pytest.raises(asyncio.CancelledError):
        await revoke(desk, ca)
    assert seen == await actions(desk) == [(Action.REVOCATION_ASKED, "")]
    await revoke(desk, FakeIssuer("first"), version=version.id)
    assert [action for action, _ in await actions(desk)][1:] == [Action.REVOCATION_ASKED, Action.CERTIFICATE_REVOKED]


async def test_what_the_ca_refused_or_did_not_answer_is_in_the_audit_trail(desk: Desk, ca: FakeIssuer) -> None:
    class Silent(FakeIssuer):
        async def revoke(self, chain_pem: str, *, reason: int) -> None:
            await asyncio.Event().wait()

    await make_issued(desk)
    ca.problem = IssuerRefused("The CA refused: bad reason.", type="urn:badRevocationReason", detail="bad reason")
    with pytest.raises(BadInput):
        await revoke(desk, ca)
    with pytest.raises(Unreachable):
        await revoke(desk, Silent("first"), limit_seconds=0.01)
    asked, refused, again, unknown = await actions(desk)
    assert asked == again == (Action.REVOCATION_ASKED, "")
    assert refused == (Action.REVOCATION_FAILED, "The CA refused: bad reason.")
    assert unknown[0] is Action.REVOCATION_FAILED
    assert "may have revoked the certificate all the same" in unknown[1]


async def test_nobody_is_asked_and_nothing_recorded_where_no_issuer_is_left(desk: Desk) -> None:
    await make_issued(desk)
    with pytest.raises(BadInput, match="not configured any more"):
        await revoke(desk, FakeIssuer("other"))
    assert await actions(desk) == []

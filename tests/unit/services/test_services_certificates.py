"""The certificate use-cases and each of their refusals."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from desk import BY, LINKS, PROD, SHOP, Desk, make_generate, make_upload

from certorbit.errors import (
    BadIdentifier,
    BadInput,
    Broken,
    BuiltIn,
    EntryExists,
    IssuanceFailed,
    NotFound,
    RetryRule,
)
from certorbit.model.commands import ChangeEntry, Generate, Upload
from certorbit.model.entry import PLACEHOLDER, ConfigID, EntryID, Side, Source, VersionID, key_context
from certorbit.model.operation import Operation, OperationID, OperationKind, OperationState, Problem
from certorbit.model.order import OrderID, OrderIntent
from certorbit.pki.selfsigned import make_placeholder
from certorbit.services import certificates, configurations, promises


async def add_placeholder(desk: Desk) -> None:
    now = desk.clock.now()
    await desk.store.write(
        lambda tx: configurations.ensure_built_in(
            tx, lambda: make_placeholder(now=now), now=now, new_id=desk.new_id, keyring=desk.keyring
        )
    )


async def end(desk: Desk, operation_id: OperationID, state: OperationState, problem: Problem | None = None) -> None:
    operation = await desk.operation(operation_id)
    ended = replace(operation, state=state, problem=problem, finished_at=desk.clock.now())
    await desk.store.write(lambda tx: tx.operations.update(ended))


async def test_an_upload_becomes_an_entry_whose_key_is_sealed_for_its_version(desk: Desk) -> None:
    command = make_upload(provider_links=LINKS)
    await desk.upload(command)
    entry = await desk.find()
    assert entry is not None
    assert (entry.source, entry.side, entry.identifiers) == (Source.UPLOADED, Side.SERVER, ("www.example.com",))
    assert (entry.provider_links, entry.uploaded) == (LINKS, desk.clock.now())
    assert entry.current is not None
    assert (entry.current.chain_pem, entry.current.facts) == (command.material.chain_pem, command.material.facts)
    assert (entry.current.le_hash, entry.current.issuer_name) == ("", "")
    assert entry.current.sealed_key is not None
    opened = desk.keyring.open(entry.current.sealed_key, context=key_context(entry.current.id))
    assert command.material.key is not None
    assert opened.decode() == command.material.key.reveal()
    assert desk.jobs == []
    assert (await desk.configuration()).version == 2


async def test_a_ca_bundle_has_no_key(desk: Desk) -> None:
    await desk.upload(make_upload(side=Side.CLIENT_CA, crl=("a crl",)))
    entry = await desk.find()
    assert entry is not None
    assert entry.current is not None
    assert (entry.current.sealed_key, entry.crl) == (None, ("a crl",))


async def test_a_repeated_upload_changes_nothing(desk: Desk) -> None:
    await desk.upload(make_upload())
    before = await desk.find()
    desk.clock.advance(hours=1)
    await desk.upload(make_upload())
    assert await desk.find() == before
    assert (await desk.configuration()).version == 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: make_upload(key_index=1), id="another-key"),
        pytest.param(lambda: make_upload(has_intermediates=False), id="another-chain"),
        pytest.param(lambda: make_upload(le_auto_renew=False), id="another-flag"),
        pytest.param(lambda: make_upload(provider_links=LINKS), id="other-links"),
        pytest.param(lambda: make_upload(side=Side.SERVER_TO_BACKEND_MTLS), id="another-side"),
    ],
)
async def test_another_upload_under_the_same_id_is_refused(desk: Desk, other: Callable[[], Upload]) -> None:
    await desk.upload(make_upload())
    before = await desk.find()
    with pytest.raises(EntryExists, match="'shop' in configuration 'prod' already, made from other input"):
        await desk.upload(other())
    assert await desk.find() == before


async def test_a_generated_entry_its_operation_and_its_workflow_are_recorded_together(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate(provider_links=LINKS))
    assert operation_id is not None
    entry, operation = await desk.find(), await desk.operation(operation_id)
    assert entry is not None
    assert (entry.source, entry.current) == (Source.GENERATED, None)
    assert entry.identifiers == operation.identifiers == ("www.example.com", "example.com")
    assert operation == Operation(
        id=operation_id,
        kind=OperationKind.ISSUE,
        config=PROD,
        entry_id=SHOP,
        entry_uid=entry.uid,
        identifiers=("www.example.com", "example.com"),
        state=OperationState.QUEUED,
        attempt=1,
        promised=False,
        created_at=desk.clock.now(),
        updated_at=desk.clock.now(),
        finished_at=None,
        next_attempt_at=None,
        issuer_name="",
        problem=None,
    )
    (job,) = desk.jobs
    assert (job.workflow_id, job.attempt, job.delay_seconds) == (f"{operation_id}.1", 1, 0.0)
    assert job.priority == certificates.PRIORITY_INTERACTIVE
    assert (await desk.configuration()).version == 2


async def test_a_repeated_request_joins_the_issuance_under_way_whatever_the_order_of_names(desk: Desk) -> None:
    first = await desk.generate(make_generate())
    for state in (OperationState.QUEUED, OperationState.RUNNING, OperationState.WAITING):
        assert first is not None
        await end(desk, first, state)
        assert await desk.generate(make_generate(SHOP, "EXAMPLE.com", "www.example.com")) == first
    assert len(desk.jobs) == 1
    assert (await desk.configuration()).version == 2


async def test_a_repeated_request_finds_the_issuance_done(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate())
    assert operation_id is not None
    entry = await desk.find()
    assert entry is not None
    await desk.upload(make_upload("other"))
    donor = await desk.find("other")
    assert donor is not None
    assert donor.current is not None
    version = replace(donor.current, id=VersionID("version"), entry_uid=entry.uid)
    await desk.store.write(lambda tx: tx.entries.add_version(version))
    await end(desk, operation_id, OperationState.SUCCEEDED)
    assert await desk.generate(make_generate()) is None
    assert len(desk.jobs) == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: make_generate(SHOP, "other.example.com"), id="other-names"),
        pytest.param(lambda: make_generate(SHOP, "www.example.com"), id="fewer-names"),
        pytest.param(lambda: make_generate(le_auto_renew=False), id="another-flag"),
        pytest.param(lambda: make_generate(side=Side.SERVER_TO_BACKEND_MTLS), id="another-side"),
    ],
)
async def test_another_request_under_the_same_id_is_refused(desk: Desk, other: Callable[[], Generate]) -> None:
    await desk.generate(make_generate())
    with pytest.raises(EntryExists):
        await desk.generate(other())
    with pytest.raises(EntryExists):
        await desk.upload(make_upload())
    assert len(desk.jobs) == 1


@pytest.mark.parametrize("side", [Side.CLIENT_CA, Side.BACKEND_CA])
async def test_a_ca_bundle_is_not_generated(desk: Desk, side: Side) -> None:
    with pytest.raises(BadInput, match="can't be generated; upload its CA certificates"):
        await desk.generate(make_generate(side=side))
    assert await desk.find() is None


async def test_a_wildcard_needs_a_solver_for_it(desk: Desk) -> None:
    command = make_generate(SHOP, "*.example.com", "example.com")
    with pytest.raises(BadIdentifier, match=r"\*\.example\.com needs a DNS-01 solver"):
        await desk.generate(command)
    assert await desk.find() is None
    with pytest.raises(
        BadIdentifier, match=r"no solver is configured for .*example\.com\. Add a \[\[solvers\]\] table"
    ):
        await desk.generate(make_generate(SHOP, "example.com"), covers=lambda _: False)
    assert await desk.generate(command, covers=lambda _: True) is not None


async def test_an_unknown_configuration_is_named(desk: Desk) -> None:
    long = "x" * 200
    for config in ("staging", long):
        with pytest.raises(NotFound, match="There is no configuration") as caught:
            await desk.generate(make_generate(config=config))
        assert len(caught.value.message) < 150
        with pytest.raises(NotFound):
            await desk.upload(make_upload(config=config))
        with pytest.raises(NotFound):
            await desk.store.read(lambda tx, config=config: certificates.list_entries(tx, ConfigID(config)))
        with pytest.raises(NotFound, match="There is no configuration"):
            await desk.store.read(lambda tx, config=config: certificates.get_entry(tx, ConfigID(config), SHOP))


async def test_entries_are_listed_with_the_placeholder_first(desk: Desk) -> None:
    await add_placeholder(desk)
    await desk.upload(make_upload("zebra"))
    await desk.generate(make_generate("apple"))
    entries = await desk.store.read(lambda tx: certificates.list_entries(tx, PROD))
    assert [entry.id for entry in entries] == ["placeholder", "apple", "zebra"]
    assert (await desk.store.read(lambda tx: certificates.get_entry(tx, PROD, EntryID("apple")))).current is None


async def test_the_placeholder_is_nobodys_to_change(desk: Desk) -> None:
    await add_placeholder(desk)
    before = await desk.find(PLACEHOLDER)
    change = ChangeEntry(config=PROD, id=PLACEHOLDER, le_auto_renew=True, le_auto_replace=True)
    with pytest.raises(BuiltIn, match="'placeholder' is built in"):
        await desk.delete(PLACEHOLDER)
    with pytest.raises(BuiltIn):
        await desk.store.write(
            lambda tx: certificates.change(tx, change, by=BY, now=desk.clock.now(), new_id=desk.new_id)
        )
    with pytest.raises(BuiltIn):
        await desk.generate(make_generate(PLACEHOLDER))
    with pytest.raises(BuiltIn):
        await desk.upload(make_upload(PLACEHOLDER))
    assert await desk.find(PLACEHOLDER) == before


async def test_flags_read_back_as_they_were_written(desk: Desk) -> None:
    await desk.upload(make_upload())
    for renew, replaced in ((False, True), (True, False), (False, False)):
        command = ChangeEntry(config=PROD, id=SHOP, le_auto_renew=renew, le_auto_replace=replaced, replace=SHOP)
        await desk.store.write(
            lambda tx, command=command: certificates.change(
                tx, command, by=BY, now=desk.clock.now(), new_id=desk.new_id
            )
        )
        entry = await desk.find()
        assert entry is not None
        assert (entry.le_auto_renew, entry.le_auto_replace) == (renew, replaced)
    assert (await desk.configuration()).version == 5


async def test_a_change_that_names_an_unknown_certificate_changes_nothing(desk: Desk) -> None:
    await desk.upload(make_upload())
    command = ChangeEntry(config=PROD, id=SHOP, le_auto_renew=False, le_auto_replace=False, replace=EntryID("gone"))
    with pytest.raises(BadInput, match="replace_cert_id: there is no certificate 'gone'"):
        await desk.store.write(
            lambda tx: certificates.change(tx, command, by=BY, now=desk.clock.now(), new_id=desk.new_id)
        )
    entry = await desk.find()
    assert entry is not None
    assert entry.le_auto_renew
    unknown = replace(command, id=EntryID("unknown"), replace=None)
    with pytest.raises(NotFound, match="There is no certificate 'unknown'"):
        await desk.store.write(
            lambda tx: certificates.change(tx, unknown, by=BY, now=desk.clock.now(), new_id=desk.new_id)
        )


async def test_a_deletion_takes_the_entry_with_its_versions(desk: Desk) -> None:
    await desk.upload(make_upload())
    entry = await desk.find()
    assert entry is not None
    await desk.delete()
    assert await desk.find() is None
    assert await desk.store.read(lambda tx: tx.entries.get_by_uid(entry.uid)) is None
    with pytest.raises(NotFound):
        await desk.delete()
    assert (await desk.configuration()).version == 3


async def test_a_deletion_cancels_the_issuance_and_drops_its_key(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate())
    assert operation_id is not None
    intent = OrderIntent(
        id=OrderID("order"),
        operation=operation_id,
        attempt=1,
        issuer_name="acme",
        account="https://ca.example/dir",
        identifiers=("www.example.com",),
        identifiers_hash="",
        sealed_key=b"sealed",
        url="https://ca.example/order/1",
        requests=1,
        created_at=desk.clock.now(),
    )
    await desk.store.write(lambda tx: tx.orders.add(intent))
    await desk.delete()
    operation = await desk.operation(operation_id)
    assert (operation.state, operation.finished_at) == (OperationState.CANCELLED, desk.clock.now())
    kept = await desk.store.read(lambda tx: tx.orders.find(operation_id, 1))
    assert kept == replace(intent, sealed_key=b""), "the ledger keeps what was asked, not the key"
    again = await desk.generate(make_generate())
    assert again not in {None, operation_id}


async def test_a_promise_is_written_down_once(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate())
    assert operation_id is not None
    desk.clock.advance(20)
    promised = await desk.promise(operation_id)
    assert (promised.promised, promised.updated_at) == (True, desk.clock.now())
    desk.clock.advance(20)
    assert await desk.promise(operation_id) == promised == await desk.operation(operation_id)


@pytest.mark.parametrize("state", [state for state in OperationState if state.is_final])
async def test_what_has_ended_is_not_promised_any_more(desk: Desk, state: OperationState) -> None:
    operation_id = await desk.generate(make_generate())
    assert operation_id is not None
    await end(desk, operation_id, state)
    found = await desk.promise(operation_id)
    assert (found.state, found.promised) == (state, False)


async def test_a_promise_about_nothing_is_a_bug(desk: Desk) -> None:
    with pytest.raises(Broken):
        await desk.promise(OperationID("no-such"))


async def test_the_end_decides_what_the_client_is_told(desk: Desk) -> None:
    operation_id = await desk.generate(make_generate())
    assert operation_id is not None
    problem = Problem("The CA refused: no.", "urn:x", "no", {}, RetryRule.NEVER)
    for state in OperationState:
        await end(desk, operation_id, state, problem)
        operation = await desk.operation(operation_id)
        if state is OperationState.FAILED:
            with pytest.raises(IssuanceFailed, match=r"^The CA refused: no\. No entry was created\.$"):
                promises.settle(operation)
        elif state is OperationState.CANCELLED:
            with pytest.raises(IssuanceFailed, match="'shop' was deleted while it was being issued"):
                promises.settle(operation)
        else:
            promises.settle(operation)

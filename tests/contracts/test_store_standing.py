"""The store's grouped counts, on both databases: attachments, revocation, deployments."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest

from certorbit.model.crl import HOLD, Verdict, VerdictState
from certorbit.model.deployment import Stage, Wanted
from certorbit.model.entry import Entry, EntryUID, VersionID
from certorbit.model.operation import Lane, OperationKind, OperationState
from certorbit.model.standing import AttachmentGroup, RevocationStanding
from certorbit.ports.store import UnitOfWork
from certorbit.storage import SQLStore
from records import NOW, make_attachment, make_configuration, make_entry, make_key, make_operation, make_version

HOUR = timedelta(hours=1)


@pytest.fixture
async def prod(store: SQLStore) -> SQLStore:
    await store.write(lambda tx: tx.configurations.add(make_configuration()))
    return store


def entry_with(name: str, *, version: str = "") -> Entry:
    uid = f"u-{name}"
    return replace(make_entry(name, uid=uid), current=make_version(uid, id=version or f"v-{name}"))


async def test_attachments_are_counted_by_target_stage_and_whether_the_current_version_is_proven(
    prod: SQLStore,
) -> None:
    shop = entry_with("shop")
    unissued = make_entry("new", uid="u-new", with_version=False)
    current, older = VersionID("v-shop"), VersionID("v-before")

    def fill(tx: UnitOfWork) -> None:
        tx.entries.add(shop)
        tx.entries.add(unissued)
        for number, (target, stage, version, wanted) in enumerate(
            [
                ("edge", Stage.PROVEN, current, Wanted.ATTACHED),
                ("edge", Stage.PROVEN, current, Wanted.ATTACHED),
                ("edge", Stage.PROVEN, older, Wanted.ATTACHED),
                ("edge", Stage.PROVEN, current, Wanted.DETACHED),
                ("edge", Stage.DRIFTED, current, Wanted.ATTACHED),
                ("aws", Stage.PENDING, None, Wanted.ATTACHED),
            ]
        ):
            made = make_attachment(shop, make_key(f"https-{number}", target=target), wanted=wanted)
            tx.attachments.add(replace(made, stage=stage, version=version))
        tx.attachments.add(make_attachment(unissued, make_key("https-new", target="aws")))
        # An entry that is gone: its attachment is being taken off.
        gone = make_attachment(entry_with("gone"), make_key("https-gone", target="aws"), wanted=Wanted.DETACHED)
        tx.attachments.add(replace(gone, stage=Stage.FAILED))

    await prod.write(fill)
    assert await prod.read(lambda tx: tx.attachments.count_groups()) == {
        AttachmentGroup("edge", Stage.PROVEN, is_as_wanted=True): 2,
        AttachmentGroup("edge", Stage.PROVEN, is_as_wanted=False): 2,
        AttachmentGroup("edge", Stage.DRIFTED, is_as_wanted=False): 1,
        AttachmentGroup("aws", Stage.PENDING, is_as_wanted=False): 2,
        AttachmentGroup("aws", Stage.FAILED, is_as_wanted=False): 1,
    }


def expected(verdict: Verdict, *, look_at: datetime | None) -> RevocationStanding:
    """Return what the model's own rule says."""
    state = verdict.at(NOW).state
    if state is VerdictState.UNKNOWN and look_at is None:
        return RevocationStanding.UNCHECKED
    return RevocationStanding(state.value)


async def test_certificates_are_counted_as_the_models_own_rule_judges_them(prod: SQLStore) -> None:
    cases = [
        (Verdict(state=state, reason=reason, checked_at=NOW - HOUR, valid_until=valid_until), look_at)
        for (state, reason), valid_until, look_at in product(
            [
                (VerdictState.GOOD, ""),
                (VerdictState.REVOKED, "keyCompromise"),
                (VerdictState.REVOKED, HOLD),
                (VerdictState.UNKNOWN, ""),
            ],
            [None, NOW, NOW + HOUR],
            [None, NOW + HOUR],
        )
    ]
    counts = dict.fromkeys(RevocationStanding, 0)

    def fill(tx: UnitOfWork) -> None:
        for number, (verdict, look_at) in enumerate(cases):
            tx.entries.add(entry_with(f"e-{number}"))
            tx.revocations.put_verdict(VersionID(f"v-e-{number}"), verdict, look_at=look_at)
            counts[expected(verdict, look_at=look_at)] += 1
        tx.entries.add(entry_with("new"))  # not looked at yet, and due at once
        counts[RevocationStanding.UNKNOWN] += 1

    await prod.write(fill)
    assert min(counts.values()) > 0, "every standing is among the cases"
    assert await prod.read(lambda tx: tx.revocations.count_standings(now=NOW)) == counts


async def test_versions_that_are_not_the_current_one_are_not_counted(prod: SQLStore) -> None:
    later = make_version("u-shop", id="v2")

    def fill(tx: UnitOfWork) -> None:
        tx.entries.add(entry_with("shop"))
        tx.entries.add_version(later)
        tx.entries.set_current(EntryUID("u-shop"), later.id)
        tx.entries.add(make_entry("new", uid="u-new", with_version=False))
        for version, state in (("v-shop", VerdictState.REVOKED), ("v2", VerdictState.GOOD)):
            tx.revocations.put_verdict(VersionID(version), Verdict(state=state, checked_at=NOW), look_at=NOW)

    await prod.write(fill)
    found = await prod.read(lambda tx: tx.revocations.count_standings(now=NOW))
    assert found == {RevocationStanding.GOOD: 1}


async def test_operations_of_a_lane_are_counted_by_state_from_an_instant_on(prod: SQLStore) -> None:
    deploy, issue = OperationKind.DEPLOY, OperationKind.ISSUE
    made = [
        make_operation(state=OperationState.SUCCEEDED, kind=deploy, created_at=NOW - HOUR),
        make_operation(state=OperationState.SUCCEEDED, kind=deploy, created_at=NOW),
        make_operation(state=OperationState.FAILED, kind=deploy, created_at=NOW),
        make_operation(state=OperationState.WAITING, kind=deploy, created_at=NOW),
        make_operation(state=OperationState.FAILED, kind=issue, created_at=NOW),
        make_operation(state=OperationState.FAILED, kind=deploy, created_at=NOW - HOUR - timedelta(microseconds=1)),
    ]

    def fill(tx: UnitOfWork) -> None:
        for operation in made:
            tx.operations.add(operation)

    await prod.write(fill)
    found = await prod.read(lambda tx: tx.operations.count_states(lane=Lane.DEPLOYMENT, since=NOW - HOUR))
    assert found == {OperationState.SUCCEEDED: 2, OperationState.FAILED: 1, OperationState.WAITING: 1}

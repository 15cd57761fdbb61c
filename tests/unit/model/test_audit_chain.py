"""The chain of the audit trail: whatever is done to it shows, and where."""

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from certorbit.model.audit import (
    NO_HASH,
    Action,
    Actor,
    ActorKind,
    AuditEvent,
    AuditRecord,
    ChainBreak,
    ChainCheck,
    ChainPoint,
    canonical,
    digest,
    event_of_changes,
)
from certorbit.model.change import Change, ChangeKind

AT = datetime(2026, 11, 24, 12, 0, 0, 1500, tzinfo=UTC)
ALICE = Actor(ActorKind.API_KEY, "älice", key_id="k1", role="admin", address="192.0.2.7", method="POST")


def make_documents(count: int, *, after: ChainPoint | None = None) -> list[dict[str, Any]]:
    """Return a chain's records as they are exported."""
    point, documents = after or ChainPoint(), []
    for _ in range(count):
        number = point.number + 1
        event = AuditEvent(action=Action.KEY_EXPORTED, config="prod", objects=(f"entry-{number}",))
        record = AuditRecord(place=number, at=AT, actor=ALICE, event=event, number=number, previous=point.hash)
        point = ChainPoint(number, digest(record.document()))
        documents.append(replace(record, hash=point.hash).document())
    return documents


def point_of(document: dict[str, Any]) -> ChainPoint:
    return ChainPoint(document["number"], document["hash"])


def check(
    documents: list[dict[str, Any]],
    *,
    start: ChainPoint | None = None,
    head: ChainPoint | None = None,
    pins: tuple[ChainPoint, ...] = (),
) -> ChainBreak | None:
    walk = ChainCheck(start or ChainPoint(), pins=pins)
    for document in documents:
        if wrong := walk.read(json.loads(canonical(document))):
            return wrong
    return walk.end(head)


def test_an_untouched_chain_holds() -> None:
    documents = make_documents(20)
    assert documents[0]["previous"] == NO_HASH
    assert check(documents, head=point_of(documents[-1])) is None


@pytest.mark.parametrize("path", [("who", "name"), ("address",), ("at",), ("config",), ("details", "keys"), ("new",)])
def test_a_changed_field_is_found_where_it_is(path: tuple[str, ...]) -> None:
    documents = make_documents(9)
    place: dict[str, Any] = documents[4]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = "changed"
    wrong = check(documents)
    assert wrong is not None
    assert (wrong.kind, wrong.number) == ("changed", 5)


def test_a_record_that_was_hashed_anew_breaks_the_next_one() -> None:
    documents = make_documents(9)
    documents[4]["config"] = "other"
    documents[4]["hash"] = digest(documents[4])
    wrong = check(documents)
    assert wrong is not None
    assert (wrong.kind, wrong.number) == ("reordered", 6)


def test_missing_records_are_a_gap_and_are_counted() -> None:
    documents = make_documents(9)
    wrong = check(documents[:3] + documents[6:])
    assert wrong == ChainBreak(wrong.kind, 4, "Records 4 to 6 are missing.") if wrong else pytest.fail("not found")
    assert wrong.kind == "gap"


def test_missing_newest_records_are_found_by_the_head() -> None:
    documents = make_documents(9)
    wrong = check(documents[:8], head=point_of(documents[8]))
    assert wrong is not None
    assert (wrong.kind, wrong.number) == ("gap", 9)


def test_two_records_in_each_others_place_are_told_from_changed_ones() -> None:
    documents = make_documents(9)
    documents[3], documents[6] = {**documents[6], "number": 4}, {**documents[3], "number": 7}
    wrong = check(documents)
    assert wrong is not None
    assert (wrong.kind, wrong.number) == ("reordered", 4)
    assert "Record 7 was moved" in wrong.message


def test_a_chain_made_anew_from_the_start_is_found_by_what_was_noted_elsewhere() -> None:
    documents = make_documents(9)
    noted = point_of(documents[5])
    forged = make_documents(9)
    for number, document in enumerate(forged):
        document["who"]["name"] = "mallory"
        document["previous"] = forged[number - 1]["hash"] if number else NO_HASH
        document["hash"] = digest(document)
    assert check(forged) is None
    wrong = check(forged, pins=(noted,))
    assert wrong is not None
    assert (wrong.kind, wrong.number) == ("other-chain", 6)


def test_what_was_noted_of_a_record_that_is_gone_is_not_forgotten() -> None:
    documents = make_documents(9)
    wrong = check(documents[:5], pins=(point_of(documents[8]),))
    assert wrong is not None
    assert (wrong.kind, wrong.number) == ("gap", 9)


def test_the_beginning_may_be_gone_only_if_a_record_says_that_it_expired() -> None:
    documents = make_documents(9)
    anchor, rest, head = point_of(documents[3]), documents[4:], point_of(documents[8])
    wrong = check(rest, start=anchor, head=head)
    assert wrong is not None
    assert (wrong.kind, wrong.number) == ("gap", 1)
    said = AuditRecord(
        place=10,
        at=AT,
        actor=ALICE,
        event=AuditEvent(action=Action.AUDIT_EXPIRED, details={"number": anchor.number, "hash": anchor.hash}),
        number=10,
        previous=head.hash,
    )
    last = replace(said, hash=digest(said.document())).document()
    assert check([*rest, last], start=anchor, head=point_of(last)) is None


def test_the_hash_is_that_of_the_documented_text() -> None:
    (document,) = make_documents(1)
    text = canonical({name: value for name, value in document.items() if name != "hash"})
    assert text.startswith('{"action":"key.exported","address":"192.0.2.7","at":"2026-11-24T12:00:00.001500Z",')
    assert r"\u00e4lice" in text
    assert text.isascii()
    assert document["hash"] == sha256(text.encode()).hexdigest()


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed; the documented command needs it")
def test_another_program_gets_the_same_hash() -> None:
    (document,) = make_documents(1)
    done = subprocess.run(
        ["jq", "-acSj", "del(.hash)"], input=canonical(document).encode(), capture_output=True, check=True
    )
    assert sha256(done.stdout).hexdigest() == document["hash"]


def test_a_change_is_named_after_its_main_thing() -> None:
    site = Change(ChangeKind.SERVER_GROUP, "s1", {"a": 1}, {"a": 2})
    entry = Change(ChangeKind.CERTIFICATE, "www", {"a": 1}, None)
    event = event_of_changes("prod", [site, entry], version=7, operation="o1")
    assert (event.action, event.objects) == (Action.CERTIFICATE_DELETED, ("www", "s1"))
    assert [change.id for change in event.changes] == ["s1", "www"]
    two = event_of_changes("prod", [site, replace(site, id="s2")], version=8)
    assert (two.action, two.objects) == (Action.CONFIGURATION_CHANGED, ("s1", "s2"))


def test_every_change_of_a_configuration_has_an_action() -> None:
    for kind in ChangeKind:
        for before, after in (({}, None), (None, {}), ({}, {})):
            assert event_of_changes("prod", [Change(kind, "x", before, after)], version=1).action in Action

"""What an edge bundle holds, which of its objects are new, and which old ones may go."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from certorbit.model.edge_bundle import (
    BundlePlan,
    Earlier,
    EdgeSnapshot,
    folder_of,
    key_binding,
    plan_bundle,
    read_earlier,
)
from certorbit.model.entry import ConfigID, EntryID, Side, Version, VersionID
from certorbit.model.site import default_site
from records import NOW, PROD, make_configuration, make_entry, make_site, make_version

GRACE = timedelta(hours=1)


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def make_snapshot(*, version: str = "v1", **fields: Any) -> EdgeSnapshot:
    entry = replace(make_entry(), current=make_version("uid", id=version), **fields)
    sites = [replace(default_site(PROD), ssl_certificate=""), make_site("shop", ssl_certificate="shop")]
    return EdgeSnapshot(make_configuration(version=7), sites, [entry])


def plan(
    snapshot: EdgeSnapshot,
    *,
    earlier: Earlier | None = None,
    present: Mapping[str, int] | None = None,
    recipient: str = "edge",
    after: timedelta = timedelta(0),
) -> BundlePlan:
    def seal(version: Version, binding: str) -> bytes:
        return f"sealed {version.id} for {binding}".encode()

    return plan_bundle(
        snapshot,
        earlier=earlier or Earlier(),
        present=present or {},
        recipient=recipient,
        seal=seal,
        now=NOW + after,
        grace=GRACE,
    )


def sizes(of: BundlePlan) -> dict[str, int]:
    return {name: len(content) for name, content in of.write.items()}


def test_every_object_is_named_by_its_digest_and_described_in_the_manifest() -> None:
    made = plan(make_snapshot(crl=("crl one", "crl two\n")))
    manifest = json.loads(made.manifest)
    assert sorted(made.write) == sorted(manifest["objects"])
    for name, content in made.write.items():
        assert name.rpartition(".")[2] == digest(content)
        assert manifest["objects"][name] == {
            "path": f"objects/{name}",
            "sha256": digest(content),
            "size": len(content),
        }
    (certificate,) = manifest["certificates"]
    assert made.write[certificate["crl"]] == b"crl one\ncrl two\n"
    assert (certificate["id"], certificate["version"], certificate["side"]) == ("shop", "v1", "server")
    assert (manifest["version"], manifest["created_at"]) == (7, "2026-11-24T12:00:00.123Z")


def test_a_ca_bundle_has_no_key() -> None:
    entry = replace(make_entry(side=Side.CLIENT_CA), current=make_version("uid", sealed_key=None))
    made = plan(EdgeSnapshot(make_configuration(), [make_site("shop")], [entry]))
    assert json.loads(made.manifest)["certificates"][0]["key"] is None
    assert made.count == 1


def test_what_is_there_is_not_written_again() -> None:
    first = plan(make_snapshot())
    second = plan(make_snapshot(), earlier=read_earlier(first.manifest), present=sizes(first))
    assert second.write == {}
    assert second.manifest == first.manifest


def test_an_object_of_another_size_is_written_again() -> None:
    first = plan(make_snapshot())
    chain = json.loads(first.manifest)["certificates"][0]["chain"]
    assert list(plan(make_snapshot(), present={**sizes(first), chain: 1}).write) == [chain]


def test_a_sealed_key_is_found_without_the_manifest_and_the_same_one_each_time() -> None:
    first = plan(make_snapshot())
    key = json.loads(first.manifest)["certificates"][0]["key"]
    twin = key.partition(".")[0] + "." + "0" * 64
    again = plan(make_snapshot(), present={key: 5, twin: 6})
    assert json.loads(again.manifest)["certificates"][0]["key"] == twin
    assert len(again.write) == 1


def test_another_version_and_another_recipient_are_sealed_anew() -> None:
    first = plan(make_snapshot())
    for other in (
        plan(make_snapshot(version="v2"), present=sizes(first)),
        plan(make_snapshot(), present=sizes(first), recipient="other"),
    ):
        (name,) = other.write
        assert "." in name
        assert len(json.loads(other.manifest)["retired"]) == 1


def test_objects_are_removed_when_they_have_not_been_in_use_for_the_grace_time() -> None:
    first = plan(make_snapshot())
    old = json.loads(first.manifest)["certificates"][0]["key"]
    second = plan(make_snapshot(version="v2"), earlier=read_earlier(first.manifest), present=sizes(first))
    present, earlier = {**sizes(first), **sizes(second)}, read_earlier(second.manifest)
    assert second.remove == []

    just_before = plan(make_snapshot(version="v2"), earlier=earlier, present=present, after=GRACE - timedelta(0, 1))
    assert just_before.remove == []
    assert json.loads(just_before.manifest)["retired"] == {old: "2026-11-24T12:00:00.123Z"}
    third = plan(make_snapshot(version="v2"), earlier=earlier, present=present, after=GRACE)
    assert third.remove == [old]
    assert json.loads(third.manifest)["retired"] == {}


def test_an_object_that_is_in_use_again_is_not_removed() -> None:
    first = plan(make_snapshot())
    second = plan(make_snapshot(version="v2"), earlier=read_earlier(first.manifest), present=sizes(first))
    back = plan(
        make_snapshot(),
        earlier=read_earlier(second.manifest),
        present={**sizes(first), **sizes(second)},
        after=GRACE * 2,
    )
    assert back.write == {}
    assert back.remove == []


def test_what_nobody_knows_waits_for_the_grace_time_and_foreign_files_stay() -> None:
    present = {"a" * 64: 1, "README": 1, "b" * 63: 1, "A" * 64: 1}
    first = plan(make_snapshot(), present=present)
    assert list(json.loads(first.manifest)["retired"]) == ["a" * 64]
    later = plan(make_snapshot(), earlier=read_earlier(first.manifest), present=present, after=GRACE)
    assert later.remove == ["a" * 64]


def test_what_is_still_being_issued_is_unavailable() -> None:
    sites = [make_site("shop")]
    made = plan(EdgeSnapshot(make_configuration(), sites, [make_entry(with_version=False)]))
    manifest = json.loads(made.manifest)
    assert manifest["unavailable"] == ["clients", "shop"]
    assert manifest["certificates"] == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"7",
        b"[" * 200_000,
        b"\xff\xfe",
        b'{"format": "other/1", "objects": {}, "retired": {}}',
        b'{"format": "certorbit-edge-bundle/1", "objects": {}}',
        b'{"format": "certorbit-edge-bundle/1", "objects": 7, "retired": {}}',
        b'{"format": "certorbit-edge-bundle/1", "objects": {}, "retired": []}',
        b'{"format": "certorbit-edge-bundle/1", "objects": {}, "retired": {"x": 7}}',
        b'{"format": "certorbit-edge-bundle/1", "objects": {}, "retired": {"x": "2026-01-01T00:00:00"}}',
        b'{"format": "certorbit-edge-bundle/1", "objects": {}, "retired": {"x": "soon"}}',
        b'{"format": "certorbit-edge-bundle/1", "objects": [[]], "retired": {}}',
    ],
)
def test_a_manifest_that_is_none_of_ours_is_not_believed(text: bytes) -> None:
    assert read_earlier(text) is None


def test_folders_are_names_that_every_system_takes() -> None:
    assert folder_of(ConfigID("prod-1.eu_A")) == "prod-1.eu_A"
    for text in ("..", ".", "a/b", "", "~x", "ü", "a b", "x" * 129, ".hidden"):
        assert folder_of(ConfigID(text)) == "~" + digest(text.encode())


def test_a_binding_names_everything_that_a_key_belongs_to() -> None:
    bound = key_binding(config=PROD, entry=EntryID("shop"), version=VersionID("v1"), recipient="edge")
    assert bound == "certorbit-edge-key/1\nprod\nshop\nv1\nedge"

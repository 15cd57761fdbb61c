"""Every dialect against its golden JSON; sides, messages, slashes."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.material import make_leaf
from api.server import API, run_api

GOLDEN = Path(__file__).parent / "golden"
DIALECTS = ("v4", "v4.0", "v4.3")
# The seed's list, in its order.
SEED_FIELDS = [
    "cert_body",
    "expires",
    "id",
    "issuer",
    "le_auto_renew",
    "le_auto_replace",
    "le_hash",
    "private_key",
    "san",
    "subject",
    "uploaded",
    "revoked",
    "crl",
    "cdp",
    "side",
]
LINKS = [{"link": "arn:aws:acm:eu-central-1:1:certificate/x", "provider": "aws", "region": "eu-central-1"}]


def without_pem(document: Any) -> Any:
    """Return the document with its PEM texts named instead of quoted: they differ from run to run."""
    if isinstance(document, dict):
        return {name: without_pem(value) for name, value in document.items()}
    if isinstance(document, list):
        return [without_pem(value) for value in document]
    if isinstance(document, str) and document.startswith("-----BEGIN "):
        return " ".join(line.strip("-").removeprefix("BEGIN ") for line in document.splitlines() if "BEGIN" in line)
    return document


def prepare(api: API) -> None:
    """One entry of each sort: uploaded, CA bundle, generated, still being issued."""
    assert (
        api.upload("an-upload", make_leaf(api.ca, "b.example.test", "a.example.test"), provider_links=LINKS).status
        == 201
    )
    bundle = {"cert_body": api.ca.cert_pem, "side": "clientCA", "le_auto_renew": False}
    assert api.call("POST", "/api/v4.3/conf/prod/certificates/ca-bundle", document=bundle).status == 201
    assert api.generate("generated", "www.example.test").status == 201
    api.workflow.outcome = "go on"
    assert api.generate("pending", "slow.example.test", side="serverToBackendMTLS").status == 201


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_list_and_single_certificates_are_as_the_golden_file_says(dialect: str, tmp_path: Path) -> None:
    with run_api(tmp_path) as api:
        prepare(api)
        base = f"/api/{dialect}/conf/prod/certificates"
        got = {
            "list": api.call("GET", base).json,
            "one": {name: api.call("GET", f"{base}/{name}").json for name in ("an-upload", "ca-bundle", "pending")},
        }
    golden = json.loads((GOLDEN / f"{dialect}.json").read_text())
    assert without_pem(got) == golden
    assert json.dumps(without_pem(got)) == json.dumps(golden), "the order of the fields differs"


def test_the_list_of_v4_0_has_the_seeds_fields_in_the_seeds_order(api: API) -> None:
    item = api.call("GET", "/api/v4.0/conf/prod/certificates").json["items"][0]
    assert list(item) == SEED_FIELDS


def test_one_certificate_of_v4_0_has_its_links_first(api: API) -> None:
    item = api.call("GET", "/api/v4.0/conf/prod/certificates/placeholder").json
    assert list(item) == ["links", *SEED_FIELDS]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_total_counts_the_items_and_placeholder_is_first(api: API, dialect: str) -> None:
    document = api.call("GET", f"/api/{dialect}/conf/prod/certificates").json
    assert document["total"] == len(document["items"])
    assert document["items"][0]["id"] == "placeholder"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_answers_a_post_with_the_message(api: API, dialect: str) -> None:
    answer = api.generate(api.new_name(), "m.example.test", path=f"/api/{dialect}/conf/prod/certificates")
    assert (answer.status, answer.json) == (201, {"message": "Successfully created entry"})


@pytest.mark.parametrize(
    ("dialect", "updated", "deleted"),
    [
        ("v4", b'{"message":"Successfully updated entry"}', b'{"message":"Successfully deleted entry"}'),
        ("v4.0", b"", b""),
        ("v4.3", b"", b""),
    ],
)
def test_put_and_delete_answer_in_the_dialects_way(api: API, dialect: str, updated: bytes, deleted: bytes) -> None:
    name = api.new_name()
    path = f"/api/{dialect}/conf/prod/certificates"
    api.generate(name, "m.example.test", path=path)
    put, delete = api.call("PUT", f"{path}/{name}"), api.call("DELETE", f"{path}/{name}")
    assert (put.status, put.body) == (200, updated)
    assert (delete.status, delete.body) == (200, deleted)


@pytest.mark.parametrize("write", DIALECTS)
@pytest.mark.parametrize(
    ("spelling", "in_v4_0", "in_others"),
    [("client", "client", "clientCA"), ("clientCA", "client", "clientCA"), ("backendCA", "backendCA", "backendCA")],
)
def test_a_side_is_read_in_every_spelling_and_written_in_the_dialects(
    api: API, write: str, spelling: str, in_v4_0: str, in_others: str
) -> None:
    name = api.new_name()
    document = {"cert_body": api.ca.cert_pem, "side": spelling}
    assert api.call("POST", f"/api/{write}/conf/prod/certificates/{name}", document=document).status == 201
    sides = {d: api.call("GET", f"/api/{d}/conf/prod/certificates/{name}").json["side"] for d in DIALECTS}
    assert sides == {"v4": in_others, "v4.0": in_v4_0, "v4.3": in_others}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "path",
    [
        "conf/configs",
        "conf/configs/prod",
        "conf/prod/certificates",
        "conf/prod/certificates/placeholder",
        "conf/prod/certificates/placeholder/pem",
    ],
)
def test_a_slash_at_the_end_is_the_same_resource(api: API, dialect: str, path: str) -> None:
    with_slash, without = (api.call("GET", f"/api/{dialect}/{path}{end}") for end in ("/", ""))
    assert with_slash.status == without.status == 200
    assert with_slash.body == without.body


def test_a_slash_at_the_end_works_for_writes_too(api: API) -> None:
    path = f"/api/v4.0/conf/prod/certificates/{api.new_name()}"
    assert api.call("POST", f"{path}/?domains=s.example.test").status == 201
    assert api.call("PUT", f"{path}/?le_auto_renew=false").status == 200
    assert api.call("DELETE", f"{path}/").status == 200


@pytest.mark.parametrize("dialect", DIALECTS)
def test_configurations_have_a_date_that_go_parses(api: API, dialect: str) -> None:
    document = api.call("GET", f"/api/{dialect}/conf/configs").json
    assert document["total"] == 1
    item = document["items"][0]
    assert list(item) == ["id", "description", "version", "date"]
    assert item["id"] == "prod"
    assert isinstance(item["version"], str)
    assert item["date"] == "2026-11-24T12:00:00.000Z"
    assert api.call("GET", f"/api/{dialect}/conf/configs/prod").json == item

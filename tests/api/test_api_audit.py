"""The audit trail over HTTP: exports of keys, refused requests, filters, the exported chain; and no secret in it."""

import json
from typing import Any

import pytest

from api.material import Pair, make_leaf
from api.renewing import NATIVE
from api.server import API, CERTS, SECRETS, Answer
from api.shapes import PEM_KEY, assert_error, assert_validation
from certorbit.api import audit_schemas
from certorbit.model.audit import ChainCheck, ChainPoint

AUDIT = f"{NATIVE}/audit"


def records_of(api: API, answer: Answer) -> list[dict[str, Any]]:
    """Return the records that the request left."""
    items = api.call("GET", f"{AUDIT}?limit=500").json["items"]
    return [item for item in items if item["request"]["id"] == answer.headers["x-request-id"]]


def uploaded(api: API, leaf: Pair) -> str:
    name = api.new_name()
    assert api.upload(name, leaf).status == 201
    return name


@pytest.mark.parametrize(("ending", "form"), [("", "json"), ("/pem", "pem"), ("/pfx", "pfx")])
def test_an_exported_key_is_recorded_with_who_and_from_where(api: API, leaf: Pair, ending: str, form: str) -> None:
    name = uploaded(api, leaf)
    answer = api.call("GET", f"{CERTS}/{name}{ending}", key="reader-export")
    assert answer.status == 200
    (record,) = records_of(api, answer)
    assert (record["action"], record["config"], record["objects"]) == ("key.exported", "prod", [name])
    assert record["details"] == {"keys": 1, "form": form}
    assert (record["who"]["name"], record["who"]["role"]) == ("reader-export", "viewer")
    assert record["address"] == "127.0.0.1"
    assert record["request"]["route"] == "/api/v4.0/conf/{config}/certificates/{entry_id}" + ending


def test_a_list_with_keys_is_one_record_that_says_how_many(fresh_api: API) -> None:
    for _ in range(3):
        uploaded(fresh_api, make_leaf(fresh_api.ca, "www.example.test"))
    answer = fresh_api.call("GET", CERTS, key="reader-export")
    keys = sum(1 for item in answer.json["items"] if item["private_key"])
    (record,) = records_of(fresh_api, answer)
    assert keys == 4
    assert (record["objects"], record["details"]) == ([], {"keys": 4, "form": "json"})


def test_what_shows_no_key_leaves_no_record(api: API, leaf: Pair) -> None:
    name = uploaded(api, leaf)
    for path in (CERTS, f"{CERTS}/{name}", f"{CERTS}/{name}/links"):
        assert records_of(api, api.call("GET", path, key="reader")) == []
    refused = api.call("GET", f"{CERTS}/{name}/pem", key="reader")
    (record,) = records_of(api, refused)
    assert (refused.status, record["action"]) == (403, "request.refused")


def test_no_key_leaves_without_its_record(fresh_api: API, leaf: Pair) -> None:
    """The database takes no more records: then nothing is exported."""
    name = uploaded(fresh_api, make_leaf(fresh_api.ca, "www.example.test"))
    engine = fresh_api.parts.store.engine  # type: ignore[attr-defined]
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON audit_records BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    for ending in ("", "/pem", "/pfx"):
        answer = fresh_api.call("GET", f"{CERTS}/{name}{ending}")
        assert answer.status in {500, 503}
        assert PEM_KEY not in answer.body.decode(errors="replace")
    assert fresh_api.call("GET", CERTS).status in {500, 503}
    before = fresh_api.call("GET", f"{CERTS}/{name}", key="reader").json
    assert fresh_api.call("PUT", f"{CERTS}/{name}?le_auto_renew=false").status in {500, 503}
    assert fresh_api.call("GET", f"{CERTS}/{name}", key="reader").json == before


def test_a_refused_request_is_recorded_once_and_counted_after(api: API) -> None:
    first = api.call("POST", f"{CERTS}/refused?domains=a.example.test", key="reader")
    again = api.call("POST", f"{CERTS}/refused?domains=a.example.test", key="reader")
    assert (first.status, again.status) == (403, 403)
    (record,) = records_of(api, first)
    assert (record["action"], record["who"]["name"], record["config"]) == ("request.refused", "reader", "prod")
    assert record["details"] == {"reason": "write", "path": f"{CERTS}/refused"}
    assert record["request"]["route"] == "/api/v4.0/conf/{config}/certificates/{entry_id}"
    assert records_of(api, again) == []


def test_a_write_in_maintenance_is_recorded_as_refused(fresh_api: API) -> None:
    fresh_api.call("POST", f"{NATIVE}/maintenance", document={"on": True})
    answer = fresh_api.call("DELETE", f"{CERTS}/placeholder")
    assert answer.status == 403
    (record,) = records_of(fresh_api, answer)
    assert (record["action"], record["details"]["reason"]) == ("request.refused", "maintenance")


def test_a_hostile_path_is_recorded_without_what_a_terminal_obeys(api: API) -> None:
    answer = api.call("DELETE", "/api/v4.0/conf/a%1b%5b2J%00/certificates/x", key="reader")
    assert answer.status == 403
    (record,) = records_of(api, answer)
    assert record["details"]["path"] == "/api/v4.0/conf/a?[2J?/certificates/x"
    assert record["config"] == ""


def test_no_secret_is_in_any_record(fresh_api: API) -> None:
    leaf = make_leaf(fresh_api.ca, "www.example.test")
    name = uploaded(fresh_api, leaf)
    made = fresh_api.call("POST", f"{NATIVE}/api-keys", document={"name": "new", "role": "admin"}).json
    rotated = fresh_api.call("POST", f"{NATIVE}/api-keys/{made['id']}/rotate").json
    fresh_api.call("DELETE", f"{NATIVE}/api-keys/{made['id']}")
    for path in ("", f"/{name}", f"/{name}/pem", f"/{name}/pfx"):
        assert fresh_api.call("GET", CERTS + path, headers={"X-PFX-Password": "pfx-password"}).status == 200
    fresh_api.call("GET", CERTS, headers={"Authorization": "Basic co_" + "Z" * 43})
    fresh_api.call("PUT", f"{CERTS}/{name}?le_auto_renew=false")
    fresh_api.call("DELETE", f"{CERTS}/{name}")
    text = fresh_api.call("GET", f"{AUDIT}/export").body.decode()
    assert text.count("\n") > 10
    assert "co_Z" not in text
    assert PEM_KEY not in text
    assert "pfx-password" not in text
    for secret in (made["key"], rotated["key"], *SECRETS.values()):
        assert secret not in text
    body = leaf.key_pem.splitlines()[1]
    assert body not in text


def test_a_change_says_from_what_to_what(api: API, leaf: Pair) -> None:
    name = uploaded(api, leaf)
    (record,) = records_of(api, api.call("PUT", f"{CERTS}/{name}?le_auto_renew=false"))
    (change,) = record["changes"]
    assert (change["kind"], change["id"]) == ("certificate", name)
    assert (change["before"]["le_auto_renew"], change["after"]["le_auto_renew"]) == (True, False)
    key = api.call("POST", f"{NATIVE}/api-keys", document={"name": "old", "role": "viewer"}).json
    (record,) = records_of(api, api.call("PATCH", f"{NATIVE}/api-keys/{key['id']}", document={"role": "auditor"}))
    (change,) = record["changes"]
    assert (change["before"]["role"], change["after"]["role"]) == ("viewer", "auditor")


def test_the_operation_that_a_change_began_is_named(api: API) -> None:
    name = api.new_name()
    (record,) = records_of(api, api.generate(name, f"{name}.example.test"))
    operation = api.call("GET", f"{NATIVE}/operations?entry={name}").json["items"][0]
    assert record["operation"] == operation["id"]


def test_records_are_filtered_and_paged(api: API, leaf: Pair) -> None:
    name = uploaded(api, leaf)
    api.call("GET", f"{CERTS}/{name}/pem", key="reader-export")
    about = api.call("GET", f"{AUDIT}?object={name}").json
    assert (about["total"], [item["action"] for item in about["items"]]) == (2, ["key.exported", "certificate.created"])
    audit_schemas.AuditList.model_validate(about)
    for query, total in (
        ("action=key.exported", 1),
        ("who=reader-export", 1),
        ("who=admin&config=prod", 1),
        ("config=other", 0),
        ("from=2000-01-01T00:00:00Z&to=2000-01-02T00:00:00Z", 0),
        ("from=2000-01-01T00:00:00Z", 2),
    ):
        assert api.call("GET", f"{AUDIT}?object={name}&{query}").json["total"] == total, query
    page = api.call("GET", f"{AUDIT}?object={name}&limit=1").json
    rest = api.call("GET", f"{AUDIT}?object={name}&limit=1&cursor={page['next_cursor']}").json
    assert page["items"] + rest["items"] == about["items"]
    assert rest["next_cursor"] is None


def test_wrong_filters_are_input_errors(api: API) -> None:
    assert_validation(api.call("GET", f"{AUDIT}?action=no.such"), "query", "action")
    assert_validation(api.call("GET", f"{AUDIT}?from=yesterday"), "query", "from")
    assert_validation(api.call("GET", f"{AUDIT}/export?after=-1"), "query", "after")
    assert_error(api.call("GET", f"{AUDIT}?cursor=abc"), 400, says="cursor")
    assert_error(api.call("GET", f"{AUDIT}?from=0001-01-01T00:00:00%2B14:00"), 400, says="out of range")


def test_the_exported_chain_holds_and_goes_on(api: API, leaf: Pair) -> None:
    uploaded(api, leaf)
    ends = api.call("GET", f"{AUDIT}/head").json
    audit_schemas.AuditHead.model_validate(ends)
    head = ChainPoint(**ends["head"])
    answer = api.call("GET", f"{AUDIT}/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    documents = [json.loads(line) for line in answer.body.splitlines()]
    check = ChainCheck(ChainPoint(), pins=[head])
    assert [check.read(document) for document in documents] == [None] * len(documents)
    assert check.end(head) is None
    uploaded(api, make_leaf(api.ca, "other.example.test"))
    more = [
        json.loads(line) for line in api.call("GET", f"{AUDIT}/export?after={check.point.number}").body.splitlines()
    ]
    assert more
    assert [check.read(document) for document in more] == [None] * len(more)


def test_the_trail_is_for_auditors_and_administrators(api: API) -> None:
    auditor = api.call("POST", f"{NATIVE}/api-keys", document={"name": "eve", "role": "auditor"}).json["key"]
    for path in ("", "/export", "/head"):
        headers = {"Authorization": f"Basic {auditor}"}
        assert api.call("GET", AUDIT + path, key=None, headers=headers).status == 200
        assert_error(api.call("GET", AUDIT + path, key="reader-export"), 403)

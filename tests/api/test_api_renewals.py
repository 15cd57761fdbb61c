"""The operator's commands over HTTP: renewals, versions, operations, revocation, the forecast."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from api.material import make_leaf
from api.renewing import (
    NATIVE,
    RevokingIssuer,
    certificate_path,
    finish,
    let_wait,
    run_renewing_api,
    schedule,
    window_at,
)
from api.server import API, CERTS
from api.shapes import assert_error, assert_validation
from certorbit.api import renewal_schemas
from certorbit.errors import IssuerRefused, Unreachable
from certorbit.model.renewal import RenewalInfo
from records import make_problem


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, RevokingIssuer]]:
    with run_renewing_api(tmp_path_factory.mktemp("api")) as pair:
        yield pair


@pytest.fixture
def api(running: tuple[API, RevokingIssuer]) -> Iterator[API]:
    yield running[0]
    running[0].workflow.outcome = "issue"
    running[1].problem = None
    running[1].revoked.clear()


@pytest.fixture
def issuer(running: tuple[API, RevokingIssuer]) -> RevokingIssuer:
    return running[1]


@pytest.fixture
def name(api: API) -> str:
    """The id of a certificate that has just been generated."""
    entry_id = api.new_name()
    assert api.generate(entry_id, f"{entry_id}.example.test").status == 201
    return entry_id


def renew(api: API, name: str, **body: object) -> str:
    """Renew and return the operation's id."""
    answer = api.call("POST", f"{certificate_path(name)}/renew", document=body or None)
    assert answer.status == 202, answer.body
    return str(answer.json["operation"])


def status(api: API, name: str) -> dict[str, object]:
    answer = api.call("GET", f"{certificate_path(name)}/renewal", key="reader")
    assert answer.status == 200, answer.body
    document: dict[str, object] = answer.json
    return document


def versions(api: API, name: str) -> list[dict[str, object]]:
    answer = api.call("GET", f"{certificate_path(name)}/versions", key="reader")
    assert answer.status == 200, answer.body
    assert (answer.json["total"], answer.json["next_cursor"]) == (len(answer.json["items"]), None)
    items: list[dict[str, object]] = answer.json["items"]
    return items


def test_renewing_starts_an_operation_that_ends_with_a_new_version(api: API, name: str) -> None:
    first = versions(api, name)[0]["id"]
    operation = renew(api, name)
    shown = api.call("GET", f"{NATIVE}/operations/{operation}").json
    assert (shown["kind"], shown["state"], shown["entry"]) == ("renew", "queued", name)
    assert status(api, name)["operation"] == {
        "id": operation,
        "state": "queued",
        "attempt": 1,
        "next_attempt_at": None,
        "problem": None,
    }
    assert_error(api.call("POST", f"{certificate_path(name)}/renew"), 400, says="under way")
    finish(api, operation)
    assert status(api, name)["operation"] is None
    assert {item["id"]: item["is_current"] for item in versions(api, name)} == {first: False, f"v-{operation}": True}


def test_an_issuer_is_forced_by_its_name(api: API, name: str) -> None:
    operation = renew(api, name, issuer="other")
    assert api.call("GET", f"{NATIVE}/operations/{operation}").json["issuer"] == "other"
    answer = api.call("POST", f"{certificate_path(name)}/renew", document={"issuer": "third"})
    assert_error(answer, 400, says="there are fake, other")


def test_the_status_has_all_that_is_known(api: API, name: str) -> None:
    now = api.clock.now()
    info = RenewalInfo(
        now, now + timedelta(days=2), "https://ca.example.test/why", now + timedelta(days=1), now, now, "slow"
    )
    schedule(api, name, renew_at=now + timedelta(days=1), reason="ari", info=info)
    assert status(api, name) == {
        "automatic": True,
        "obstacle": None,
        "explanation": "",
        "revoked": False,
        "renew_at": "2026-11-25T12:00:00.000Z",
        "reason": "ari",
        "look_at": "2026-11-24T12:00:00.000Z",
        "paused": False,
        "issuer": "",
        "ari": {
            "start": "2026-11-24T12:00:00.000Z",
            "end": "2026-11-26T12:00:00.000Z",
            "chosen_at": "2026-11-25T12:00:00.000Z",
            "explanation_url": "https://ca.example.test/why",
            "checked_at": "2026-11-24T12:00:00.000Z",
            "next_check_at": "2026-11-24T12:00:00.000Z",
            "problem": "slow",
        },
        "not_after": "2027-03-31T23:59:59.000Z",
        "operation": None,
    }


def test_pausing_and_choosing_an_issuer(api: API, name: str) -> None:
    path = f"{certificate_path(name)}/renewal"
    changed = api.call("PATCH", path, document={"paused": True, "issuer": "other"})
    assert changed.status == 200
    assert (changed.json["paused"], changed.json["issuer"]) == (True, "other")
    assert changed.json == status(api, name)
    resumed = api.call("PATCH", path, document={"paused": False, "issuer": None}).json
    assert (resumed["paused"], resumed["issuer"]) == (False, "other")
    assert_error(api.call("PATCH", path, document={}), 400, says="changes nothing")
    assert_error(api.call("PATCH", path, document={"issuer": "third"}), 400, says="there are fake, other")
    assert_validation(api.call("PATCH", path, document={"paused": "yes"}), "body", "paused")
    assert_validation(api.call("PATCH", path, document={"pause": True}), "body", "pause")


def test_attempts_are_counted_as_people_do_and_what_was_overtaken_is_left_out(api: API, name: str) -> None:
    operation = renew(api, name)
    let_wait(api, operation, problem=make_problem())
    shown = api.call("GET", f"{NATIVE}/operations/{operation}").json
    assert (shown["state"], shown["attempt"]) == ("waiting", 1)
    assert api.call("POST", f"{NATIVE}/operations/{operation}/retry").status == 202
    assert api.workflow.jobs[-1].workflow_id == f"{operation}.3"
    shown = api.call("GET", f"{NATIVE}/operations/{operation}").json
    assert (shown["state"], shown["attempt"]) == ("queued", 2)
    assert {step["attempt"] for step in shown["steps"]} == {2}, "the third workflow is the second attempt"


def test_a_waiting_operation_is_retried_and_cancelled(api: API, name: str) -> None:
    operation = renew(api, name)
    let_wait(api, operation)
    answer = api.call("POST", f"{NATIVE}/operations/{operation}/retry")
    assert (answer.status, answer.json) == (202, {"operation": operation})
    assert api.workflow.jobs[-1].workflow_id == f"{operation}.2"
    assert_error(api.call("POST", f"{NATIVE}/operations/{operation}/retry"), 400, says="under way")
    for _ in range(2):
        cancelled = api.call("POST", f"{NATIVE}/operations/{operation}/cancel")
        assert cancelled.status == 200
        assert (cancelled.json["state"], cancelled.json["entry_deleted"]) == ("cancelled", False)
        assert "stays as it is" in cancelled.json["message"]
    assert api.call("GET", f"{CERTS}/{name}").json["cert_body"]
    assert_error(api.call("POST", f"{NATIVE}/operations/{operation}/retry"), 400, says="over (cancelled)")
    for command in ("retry", "cancel"):
        assert_error(api.call("POST", f"{NATIVE}/operations/unknown/{command}"), 404)


def test_cancelling_a_first_issuance_deletes_the_certificate(api: API) -> None:
    name = api.new_name()
    api.workflow.outcome = "go on"
    assert api.generate(name, "a.example.test").status == 201
    operation = api.call("GET", f"{NATIVE}/operations?entry={name}").json["items"][0]["id"]
    cancelled = api.call("POST", f"{NATIVE}/operations/{operation}/cancel").json
    assert (cancelled["entry_deleted"], cancelled["operation"]) == (True, operation)
    assert f"no certificate '{name}' any more" in cancelled["message"]
    assert_error(api.call("GET", f"{CERTS}/{name}"), 404)


def test_versions_show_facts_and_never_a_key(api: API, name: str) -> None:
    (item,) = versions(api, name)
    assert item == {
        "id": item["id"],
        "created_at": "2026-11-24T12:00:07.000Z",
        "source": "generated",
        "issuer": "fake",
        "issuer_subject": "C=DE, O=Orbit, CN=Orbit Test CA",
        "subject": f"CN={name}.example.test",
        "san": [f"{name}.example.test"],
        "not_before": "2026-01-01T00:00:00.000Z",
        "not_after": "2027-03-31T23:59:59.000Z",
        "serial": item["serial"],
        "fingerprint": item["fingerprint"],
        "key_algorithm": item["key_algorithm"],
        "is_current": True,
        "revoked": False,
    }
    assert "PRIVATE KEY" not in api.call("GET", f"{certificate_path(name)}/versions").body.decode()


def test_two_versions_are_compared(api: API, name: str) -> None:
    first = versions(api, name)[0]["id"]
    operation = renew(api, name)
    finish(api, operation)
    path = f"{certificate_path(name)}/versions/{first}/compare"
    document = api.call("GET", f"{path}/v-{operation}", key="reader").json
    assert (document["before"], document["after"]) == (first, f"v-{operation}")
    assert (document["names_added"], document["names_removed"]) == ([], [])
    assert [change["field"] for change in document["changes"]] == ["public_key_sha256"]
    assert api.call("GET", f"{path}/{first}").json["changes"] == []
    assert_error(api.call("GET", f"{path}/unknown"), 404, says="no version 'unknown'")


def test_rolling_back_serves_the_old_version_and_says_that_renewal_is_paused(api: API, name: str) -> None:
    old_chain = api.call("GET", f"{CERTS}/{name}").json["cert_body"]
    first = versions(api, name)[0]["id"]
    operation = renew(api, name)
    path = f"{certificate_path(name)}/versions"
    assert_error(api.call("POST", f"{path}/{first}/rollback"), 400, says=operation)
    finish(api, operation)
    assert api.call("GET", f"{CERTS}/{name}").json["cert_body"] != old_chain
    answer = api.call("POST", f"{path}/{first}/rollback")
    assert answer.status == 200
    assert (answer.json["version"]["id"], answer.json["version"]["is_current"]) == (first, True)
    assert "paused" in answer.json["message"]
    assert api.call("GET", f"{CERTS}/{name}").json["cert_body"] == old_chain
    assert status(api, name)["paused"] is True
    assert_error(api.call("POST", f"{path}/unknown/rollback"), 404)


def test_a_revoked_certificate_is_replaced_and_the_log_says_so(api: API, name: str, issuer: RevokingIssuer) -> None:
    current = versions(api, name)[0]
    answer = api.call("POST", f"{certificate_path(name)}/revoke", document={"reason": 1})
    assert answer.status == 200
    assert (answer.json["revoked"], answer.json["version"]) == (True, current["id"])
    assert issuer.revoked == [1]
    operation = api.call("GET", f"{NATIVE}/operations/{answer.json['operation']}").json
    assert (operation["kind"], operation["entry"]) == ("rekey", name)
    event = next(
        event for event in api.log_events() if event["event"] == "certificate.revoked" and event["entry"] == name
    )
    assert (event["serial"], event["reason"]) == (current["serial"], "KEY_COMPROMISE")


def test_a_repeated_revocation_names_its_version(api: API, name: str, issuer: RevokingIssuer) -> None:
    assert api.call("PUT", f"{CERTS}/{name}?le_auto_renew=false").status == 200
    body = {"reason": 4, "version": versions(api, name)[0]["id"]}
    for _ in range(2):
        answer = api.call("POST", f"{certificate_path(name)}/revoke", document=body)
        assert answer.json == {"revoked": True, "version": body["version"], "operation": None}
    assert issuer.revoked == [4, 4]


def test_what_the_ca_says_against_a_revocation_reaches_the_client(api: API, name: str, issuer: RevokingIssuer) -> None:
    path = f"{certificate_path(name)}/revoke"
    issuer.problem = IssuerRefused("The CA refused: not that reason.", type="urn:x", detail="not that reason")
    assert_error(api.call("POST", path, document={"reason": 3}), 400, says="not that reason")
    issuer.problem = Unreachable("The CA is away.", subject="ca", phase="connect")
    assert_error(api.call("POST", path, document={"reason": 3}), 503, says="The CA is away.")
    assert status(api, name)["operation"] is None


@pytest.mark.parametrize("reason", [2, 6, 9, -1, "1x", None, 1.5])
def test_a_reason_that_no_holder_can_give_is_refused(api: API, name: str, reason: object) -> None:
    answer = api.call("POST", f"{certificate_path(name)}/revoke", document={"reason": reason})
    assert_validation(answer, "body", "reason")


def test_an_uploaded_certificate_is_not_ours_to_revoke(api: API) -> None:
    name = api.new_name()
    assert api.upload(name, make_leaf(api.ca, "up.example.test")).status == 201
    answer = api.call("POST", f"{certificate_path(name)}/revoke", document={"reason": 0})
    assert_error(answer, 400, says="was uploaded")
    operation = renew(api, name)
    assert api.call("GET", f"{NATIVE}/operations/{operation}").json["kind"] == "replace"


def test_the_forecast_says_what_when_by_whom_and_what_is_held_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with run_renewing_api(tmp_path_factory.mktemp("api")) as (api, _):
        now = api.clock.now()
        for name, issuer, paused in (("a", "other", False), ("b", "other", False), ("c", "", False), ("d", "", True)):
            api.generate(name, f"{name}.example.test")
            due = now + timedelta(days=2)
            schedule(api, name, renew_at=due, info=window_at(api, due), issuer=issuer, paused=paused)
        api.generate("far", "far.example.test")
        far = now + timedelta(days=40)
        schedule(api, "far", renew_at=far, info=window_at(api, far))
        document = api.call("GET", f"{NATIVE}/renewals", key="reader").json
        assert (document["total"], document["is_complete"]) == (3, True)
        assert document["until"] == "2026-12-24T12:00:00.000Z"
        assert document["items"][0] == {
            "config": "prod",
            "entry": "a",
            "identifiers": ["a.example.test"],
            "issuer": "other",
            "renew_at": "2026-11-26T12:00:00.000Z",
            "reason": "ari",
            "expected_at": "2026-11-26T12:00:00.000Z",
        }
        (held_back,) = document["held_back"]
        assert (held_back["entry"], held_back["rule"]) == ("b", "certificates_per_domain")
        assert held_back["expected_at"] == "2026-12-06T12:00:00.000Z"
        assert "1 certificates per 10 days" in held_back["message"]
        assert [(item["issuer"], item["total"], item["days"]) for item in document["issuers"]] == [
            ("fake", 1, [{"date": "2026-11-26", "count": 1}]),
            ("other", 2, [{"date": "2026-11-26", "count": 1}, {"date": "2026-12-06", "count": 1}]),
        ]
        assert api.call("GET", f"{NATIVE}/renewals?days=60").json["total"] == 4
        assert api.call("GET", f"{NATIVE}/renewals?limit=1").json["is_complete"] is False
        assert api.call("GET", f"{NATIVE}/renewals?days=1").json["items"] == []
        assert_validation(api.call("GET", f"{NATIVE}/renewals?days=0"), "query", "days")
        assert renewal_schemas.ForecastBody.model_validate(document).model_dump(mode="json") == document


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", "/renew", None),
        ("PATCH", "/renewal", {"paused": True}),
        ("POST", "/revoke", {"reason": 0}),
        ("POST", "/versions/v/rollback", None),
    ],
)
def test_changes_need_the_right_and_an_entry(api: API, method: str, path: str, document: object) -> None:
    for key, status_code in (("reader", 403), (None, 401)):
        assert_error(api.call(method, certificate_path("placeholder") + path, key=key, document=document), status_code)
    assert_error(api.call(method, certificate_path("unknown") + path, document=document), 404)
    nowhere = f"{NATIVE}/configs/nowhere/certificates/a{path}"
    assert_error(api.call(method, nowhere, document=document), 404, says="nowhere")
    built_in = api.call(method, certificate_path("placeholder") + path, document=document)
    assert built_in.status in {400, 404}


def test_answers_have_the_documented_fields(api: API, name: str) -> None:
    first = versions(api, name)[0]["id"]
    path = certificate_path(name)
    now = api.clock.now()
    schedule(api, name, renew_at=now, reason="ari", info=RenewalInfo(None, None, "", None, now, now, "no"))
    for kind, method, where, document in (
        (renewal_schemas.RenewalBody, "GET", f"{path}/renewal", None),
        (renewal_schemas.VersionList, "GET", f"{path}/versions", None),
        (renewal_schemas.ComparisonBody, "GET", f"{path}/versions/{first}/compare/{first}", None),
        (renewal_schemas.RollbackBody, "POST", f"{path}/versions/{first}/rollback", None),
        (renewal_schemas.RevocationBody, "POST", f"{path}/revoke", {"reason": 0}),
    ):
        answer = api.call(method, where, document=document).json
        assert kind.model_validate(answer).model_dump(mode="json") == answer, where

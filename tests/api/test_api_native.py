"""What the WAAP API has no word for: operations, issuers, API keys, the built-in CA, health, metrics, challenges."""

import asyncio
from datetime import timedelta

import pytest

from api.server import API, CERTS, SECRETS, FakeIssuer, run_api, serve
from api.shapes import assert_error, assert_validation
from api.workflow import REFUSAL
from certorbit.api.challenges import make_challenge_app
from certorbit.errors import Broken
from certorbit.model.order import Challenge

NATIVE = "/api/certorbit/v1"
FIELDS = [
    "id",
    "kind",
    "config",
    "entry",
    "identifiers",
    "state",
    "attempt",
    "promised",
    "issuer",
    "created_at",
    "updated_at",
    "finished_at",
    "next_attempt_at",
    "problem",
]


def test_an_operation_shows_its_steps_and_times(api: API) -> None:
    name = api.new_name()
    api.generate(name, "a.example.test", "b.example.test")
    listed = api.call("GET", f"{NATIVE}/operations?entry={name}", key="reader").json
    assert listed["total"] == 1
    assert listed["next_cursor"] is None
    item = listed["items"][0]
    assert list(item) == FIELDS
    assert item["identifiers"] == ["a.example.test", "b.example.test"]
    assert (item["kind"], item["state"], item["attempt"], item["issuer"]) == ("issue", "succeeded", 1, "fake")
    assert item["finished_at"] == "2026-11-24T12:00:07.000Z"
    one = api.call("GET", f"{NATIVE}/operations/{item['id']}", key="reader").json
    step = {
        "attempt": 1,
        "name": "place_order",
        "started_at": None,
        "finished_at": "2026-11-24T12:00:07.000Z",
        "outcome": {"done": True},
    }
    assert one == {**item, "steps": [step]}


def test_a_failed_operation_shows_the_cas_own_words(api: API) -> None:
    name = api.new_name()
    api.workflow.outcome = "refuse"
    api.generate(name, "nowhere.example.test")
    item = api.call("GET", f"{NATIVE}/operations?entry={name}").json["items"][0]
    assert item["state"] == "failed"
    assert item["problem"] == {
        "message": REFUSAL.message,
        "type": REFUSAL.type,
        "detail": REFUSAL.detail,
        "subproblems": [{"identifier": "nowhere.example.test", "detail": "NXDOMAIN"}],
        "retry": "never",
        "retry_at": None,
    }


def test_pages_of_operations_are_newest_first_and_leave_none_out(fresh_api: API) -> None:
    names = [f"e{i}" for i in range(5)]
    for name in names:
        fresh_api.clock.advance(1)
        fresh_api.generate(name, "p.example.test")
    seen, cursor = [], ""
    while True:
        page = fresh_api.call("GET", f"{NATIVE}/operations?limit=2{cursor}").json
        assert page["total"] == 5
        seen += [item["entry"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == names[::-1]


@pytest.mark.parametrize(
    ("query", "total"),
    [("config=prod", 2), ("config=other", 0), ("state=succeeded", 1), ("state=failed", 1), ("entry=good", 1)],
)
def test_operations_are_filtered(tmp_path_factory: pytest.TempPathFactory, query: str, total: int) -> None:
    with run_api(tmp_path_factory.mktemp("api")) as api:
        api.generate("good", "a.example.test")
        api.workflow.outcome = "refuse"
        api.generate("bad", "b.example.test")
        document = api.call("GET", f"{NATIVE}/operations?{query}").json
    assert (document["total"], len(document["items"])) == (total, total)


def test_issuers_are_listed_in_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    issuers = (
        FakeIssuer(name="le", directory="https://acme.example.test/d", can_issue_wildcards=False),
        FakeIssuer(name="internal", directory="internal", can_issue_wildcards=True),
    )
    with run_api(tmp_path_factory.mktemp("api"), issuers=issuers) as api:
        document = api.call("GET", f"{NATIVE}/issuers", key="reader").json
    assert document == {
        "total": 2,
        "items": [
            {"name": "le", "type": "acme", "directory": "https://acme.example.test/d", "can_issue_wildcards": False},
            {"name": "internal", "type": "internal", "directory": "internal", "can_issue_wildcards": True},
        ],
        "next_cursor": None,
    }


def test_the_root_and_the_crl_are_public_files(api: API) -> None:
    root = api.call("GET", f"{NATIVE}/issuers/internal/root.pem", key=None)
    assert root.headers["content-type"] == "application/x-pem-file"
    assert root.body.decode() == api.ca.cert_pem
    crl = api.call("GET", "/crl/internal.crl", key=None)
    assert crl.headers["content-type"] == "application/pkix-crl"
    assert crl.body == b"\x30\x00"


def test_an_api_key_is_shown_once_and_then_only_described(api: API) -> None:
    document = {"name": "ci", "role": "admin", "may_export_keys": True}
    created = api.call("POST", f"{NATIVE}/api-keys", document=document)
    assert created.status == 201
    secret = created.json["key"]
    assert secret.startswith("co_")
    assert created.json["prefix"] == secret[:8]
    assert created.headers["cache-control"] == "no-store"
    listed = api.call("GET", f"{NATIVE}/api-keys")
    record = next(item for item in listed.json["items"] if item["id"] == created.json["id"])
    assert record == {name: value for name, value in created.json.items() if name != "key"}
    assert secret not in listed.body.decode()
    use = api.call("GET", f"{NATIVE}/api-keys", key=None, headers={"Authorization": f"Basic {secret}"})
    assert use.status == 200


def test_a_key_is_a_viewers_without_export_unless_asked(api: API) -> None:
    created = api.call("POST", f"{NATIVE}/api-keys", document={"name": "small"}).json
    assert (created["role"], created["may_export_keys"]) == ("viewer", False)


def test_revoking_keeps_the_record_and_may_be_repeated(api: API) -> None:
    key_id = api.call("POST", f"{NATIVE}/api-keys", document={"name": "gone"}).json["id"]
    for _ in range(2):
        answer = api.call("DELETE", f"{NATIVE}/api-keys/{key_id}")
        assert (answer.status, answer.body) == (204, b"")
    record = next(i for i in api.call("GET", f"{NATIVE}/api-keys").json["items"] if i["id"] == key_id)
    assert record["revoked_at"] == "2026-11-24T12:00:00.000Z"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a", "role": "root"}, "role"),
        ({"name": "a", "may_export_keys": "yes"}, "may_export_keys"),
        ({"name": "a", "may_export_key": True}, "may_export_key"),
    ],
)
def test_a_malformed_api_key_is_refused(api: API, document: dict[str, object], field: str) -> None:
    assert_validation(api.call("POST", f"{NATIVE}/api-keys", document=document), "body", field)


def test_healthz_is_about_the_process_and_readyz_about_its_parts(api: API) -> None:
    api.ready.problem = Broken("The worker does not run.")
    assert api.call("GET", "/healthz", key=None).json == {"message": "alive"}
    assert_error(api.call("GET", "/readyz", key=None), 503, says="The worker does not run.")
    api.ready.problem = None
    assert api.call("GET", "/readyz", key=None).json == {"message": "ready"}


def test_metrics_count_requests_by_route_and_never_by_path(api: API) -> None:
    api.call("GET", f"{CERTS}/placeholder")
    api.call("MKCOL", f"{CERTS}/placeholder")
    answer = api.call("GET", "/metrics", key="reader")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    route = "/api/v4.0/conf/{config}/certificates/{entry_id}"
    assert f'certorbit_http_requests_total{{method="GET",route="{route}",status="200"}}' in text
    assert f'certorbit_http_request_seconds_bucket{{method="GET",route="{route}",le="+Inf"}}' in text
    assert 'method="OTHER"' in text
    assert "placeholder" not in text
    assert "MKCOL" not in text


def test_metrics_can_be_switched_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    with run_api(tmp_path_factory.mktemp("api"), metrics=False) as api:
        assert_error(api.call("GET", "/metrics"), 404)
        assert_error(api.call("GET", "/metrics", key=None), 401)


def put_challenge(api: API, token: str) -> None:
    challenge = Challenge(token, f"{token}.thumbprint", api.clock.now() + timedelta(hours=1))
    asyncio.run(api.parts.store.write(lambda tx: tx.challenges.put_all([challenge])))


def test_a_challenge_is_answered_on_both_listeners(api: API) -> None:
    put_challenge(api, "tok-en_1")
    with serve(make_challenge_app(api.parts)) as port:
        alone = API(port, api.parts, api.clock, api.workflow, api.ready, api.ca, api.log_text)
        for server in (api, alone):
            answer = server.call("GET", "/.well-known/acme-challenge/tok-en_1", key=None)
            assert (answer.status, answer.body) == (200, b"tok-en_1.thumbprint")
            assert_error(server.call("GET", "/.well-known/acme-challenge/unknown", key=None), 404)
        for path in (CERTS, "/healthz", "/metrics", "/docs", "/openapi.json"):
            assert_error(alone.call("GET", path), 404)


@pytest.mark.parametrize("token", ["a.b", "a%20b", "a%00", "%2e%2e", "x" * 257, "%F0%9F%92%A9", "a+b", "a="])
def test_a_token_of_another_alphabet_is_never_looked_up(api: API, token: str) -> None:
    assert_error(api.call("GET", f"/.well-known/acme-challenge/{token}", key=None), 404)


def test_every_documented_answer_of_the_native_api_has_its_fields(api: API) -> None:
    """The documents that we render and the types that describe them don't drift apart."""
    from certorbit.api import schemas

    api.generate(api.new_name(), "d.example.test")
    operation_id = api.call("GET", f"{NATIVE}/operations").json["items"][0]["id"]
    for path, kind in (
        (f"{NATIVE}/operations", schemas.OperationList),
        (f"{NATIVE}/operations/{operation_id}", schemas.OperationWithSteps),
        (f"{NATIVE}/issuers", schemas.IssuerList),
        (f"{NATIVE}/api-keys", schemas.APIKeyList),
        (CERTS, schemas.CertificateList),
        (f"{CERTS}/placeholder", schemas.LinkedCertificate),
        ("/api/v4.3/conf/prod/certificates", schemas.NamedCertificateList),
        ("/api/v4/conf/prod/certificates/placeholder", schemas.NamedCertificate),
        ("/api/v4/conf/configs", schemas.ConfigurationList),
    ):
        document = api.call("GET", path).json
        assert kind.model_validate(document).model_dump(mode="json") == document, path


def test_the_secrets_of_these_tests_are_of_the_real_form() -> None:
    from certorbit.services.api_keys import new_secret

    assert {len(secret) for secret in SECRETS.values()} == {len(new_secret())}

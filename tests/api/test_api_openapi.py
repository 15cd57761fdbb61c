"""Our own OpenAPI documents: complete, unique, and true of the running service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case
from schemathesis.core.result import Ok

from api.server import API, SECRETS, run_api
from api.shapes import assert_error

CONTRACT = Path(__file__).parent / "waap-certificates-v4.0.openapi.yaml"
METHODS = {"get", "put", "post", "patch", "delete"}
# What no key is needed for; everything else is secured.
PUBLIC = {
    "/healthz",
    "/readyz",
    "/crl/internal.crl",
    "/.well-known/acme-challenge/{token}",
    "/api/certorbit/v1/issuers/internal/root.pem",
    "/auth/login",
    "/auth/callback",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    # The fuzzer tries wrong keys as well, more of them than anybody may.
    with run_api(tmp_path_factory.mktemp("api"), access={"failures_per_minute": 10_000}) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: API) -> dict[str, Any]:
    answer = server.call("GET", "/openapi.json", key=None)
    assert answer.status == 200
    found = answer.json
    assert isinstance(found, dict)
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            yield path, method, item[method]


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert "get_certificate_v4_0" in ids


def test_every_operation_but_the_public_ones_is_secured(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "bearer", "session"}
    for path, _, operation in operations(document):
        assert operation["security"] == ([] if path in PUBLIC else [{"apiKey": []}, {"bearer": []}, {"session": []}]), (
            path
        )
        assert ("401" in operation["responses"]) == (path not in PUBLIC), path


def test_every_operation_says_what_it_is_and_what_it_answers(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], (method, path)
        for answer in operation["responses"].values():
            assert answer["description"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def walk(value: object) -> None:
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str):
                assert reference.removeprefix("#/components/schemas/") in schemas, reference
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(document)
    assert {"CertificateCreate", "ErrorBody", "ValidationBody"} <= set(schemas)


@pytest.mark.parametrize("dialect", ["v4", "v4.0", "v4.3"])
def test_a_dialects_document_has_its_own_paths_only(server: API, document: dict[str, Any], dialect: str) -> None:
    own = server.call("GET", f"/api/{dialect}/openapi.json").json
    assert set(own["paths"]) == {path for path in document["paths"] if path.startswith(f"/api/{dialect}/")}
    assert_error(server.call("GET", f"/api/{dialect}/openapi.json", key=None), 401)


def test_the_contracts_operations_are_all_there_with_their_statuses(document: dict[str, Any]) -> None:
    contract = schemathesis.openapi.from_path(CONTRACT).raw_schema
    for path, item in contract["paths"].items():
        for method in METHODS & set(item):
            assert set(item[method]["responses"]) <= set(document["paths"][path][method]["responses"]), (method, path)


def test_any_input_is_answered_as_our_own_document_says(server: API, document: dict[str, Any]) -> None:
    # As in test_contract.py: what the schema allows is seldom a certificate or an id that exists.
    expected = {"expected-statuses": ["2xx", 400, 404, 409, 422]}
    config = schemathesis.Config.from_dict(
        {
            "generation": {"database": "none", "with-security-parameters": False},
            "checks": {"positive_data_acceptance": expected},
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    headers = {"Authorization": f"Basic {SECRETS['admin']}"}
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        tried += 1
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            def check(case: Case[Any]) -> None:
                case.call_and_validate(base_url=server.url, headers=headers, timeout=20)

            try:
                check()
            except Unsatisfiable:  # an operation without parameters has no wrong input
                assert mode is schemathesis.GenerationMode.NEGATIVE
    assert tried == len(list(operations(document)))

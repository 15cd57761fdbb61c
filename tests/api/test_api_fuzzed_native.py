"""Every operation of our OpenAPI document, as an administrator, where the things that its path names exist.

test_api_openapi.py tries them with any path; nearly all of that is 404.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case
from schemathesis.core.result import Ok

from api.balancing import add_listener, attach
from api.material import make_leaf
from api.renewing import RevokingIssuer
from api.server import API, SECRETS, run_api

NATIVE = "/api/certorbit/v1"
EXAMPLES = {NATIVE: 4, "/api/v4.3/": 2}  # for each operation and mode; the dialects are the same functions
OTHERS = 1


@dataclass(frozen=True)
class Scene:
    """there: what exists, by the name of the path's parameter."""

    api: API
    there: dict[str, list[Any]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    issuers = (RevokingIssuer("fake"), RevokingIssuer("other"))
    # The fuzzer tries wrong keys as well, more of them than anybody may.
    access = {"failures_per_minute": 10_000}
    with run_api(tmp_path_factory.mktemp("api"), issuers=issuers, access=access) as api:
        fill(api)
        versions = api.call("GET", f"{NATIVE}/configs/prod/certificates/made/versions").json["items"]
        operations = api.call("GET", f"{NATIVE}/operations").json["items"]
        key = api.call("POST", f"{NATIVE}/api-keys", document={"name": "unused"})
        version = [item["id"] for item in versions]
        yield Scene(
            api,
            {
                "config": ["prod"],
                "entry_id": ["made", "kept", "placeholder"],
                "site_id": ["__default__", "a1"],
                "number": [1, 2],
                "name": ["edge-lb"],
                "operation_id": [item["id"] for item in operations],
                "key_id": [key.json["id"]],
                "session_id": ["0" * 32, "none"],  # nobody is signed in
                "version_id": version,
                "before": version,
                "after": version,
                "target": ["edge"],
                "token": ["t"],
            },
        )


def fill(api: API) -> None:
    add_listener(api, target="edge", load_balancer="edge-lb")
    assert api.upload("kept", make_leaf(api.ca, "kept.example.test")).status == 201
    assert api.generate("made", "made.example.test").status == 201
    attach(api, "made")
    group = {"id": "a1", "name": "a1", "ssl_certificate": "made"}
    assert api.call("POST", "/api/v4.3/conf/prod/server-groups", document=group).status == 201


def narrowed(document: dict[str, Any], there: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the document with what is there as the only paths."""
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["schema"] = {"enum": there[parameter["name"]]}
    return document


def last(operation: Any) -> tuple[bool, bool]:
    """What takes things away comes late, and what switches every write off comes last."""
    return operation.path == f"{NATIVE}/maintenance", operation.method == "delete"


def test_any_input_for_what_is_there_is_answered_as_our_document_says(scene: Scene) -> None:
    # What a schema allows is seldom a certificate, or is in the way of what there is already.
    expected = {"expected-statuses": ["2xx", 400, 404, 409, 422]}
    config = schemathesis.Config.from_dict(
        {
            "generation": {"database": "none", "with-security-parameters": False},
            "checks": {"positive_data_acceptance": expected},
        }
    )
    document = narrowed(scene.api.call("GET", "/openapi.json", key=None).json, scene.there)
    schema = schemathesis.openapi.from_dict(document, config=config)
    headers = {"Authorization": f"Basic {SECRETS['admin']}"}
    statuses: dict[str, set[int]] = {}
    operations = []
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operations.append(found.ok())
    for operation in sorted(operations, key=last):
        examples = next((count for prefix, count in EXAMPLES.items() if operation.path.startswith(prefix)), OTHERS)
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            def check(case: Case[Any]) -> None:
                response = case.call_and_validate(base_url=scene.api.url, headers=headers, timeout=20)
                statuses.setdefault(f"{case.method.upper()} {case.operation.path}", set()).add(response.status_code)

            try:
                check()
            except Unsatisfiable:  # an operation without parameters has no wrong input
                assert mode is schemathesis.GenerationMode.NEGATIVE
    assert not {label for label, seen in statuses.items() if any(status >= 500 for status in seen)}
    silent = {label for label, seen in statuses.items() if not seen & {200, 201, 202, 204}}
    assert len(silent) < len(statuses) / 3, silent  # there is no target, no publisher, no operation that failed

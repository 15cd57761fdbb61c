"""Server groups, regions, versions and tools against our own OpenAPI document, where there is something to hit."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case
from schemathesis.core.result import Ok

from api.balancing import add_listener
from api.material import make_leaf
from api.server import API, SECRETS, run_api

PREFIX = "/api/v4.3/"  # the dialects' endpoints are the same functions; test_api_openapi.py goes through them all
PATHS = ("/server-groups", "/load-balancers/regions", "/versions", "/links", "/tools/")
EXAMPLES = 10  # for each operation and mode
THERE = {"config": ["prod"], "site_id": ["__default__", "a1"], "entry_id": ["kept", "placeholder"], "number": [1, 2]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    # The fuzzer tries wrong keys as well, more of them than anybody may.
    with run_api(tmp_path_factory.mktemp("api"), access={"failures_per_minute": 10_000}) as running:
        add_listener(running, target="edge", load_balancer="lb")
        assert running.upload("kept", make_leaf(running.ca, "kept.example.test")).status == 201
        yield running


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of these operations alone, with what is there as the only paths."""
    paths = {
        path: item
        for path, item in document["paths"].items()
        if path.startswith(PREFIX) and any(part in path for part in PATHS)
    }
    assert len(paths) == 9
    for item in paths.values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["schema"] = {"enum": THERE[parameter["name"]]}
    return {**document, "paths": paths}


def test_any_input_is_answered_as_the_document_says(server: API) -> None:
    expected = {"expected-statuses": ["2xx", 400, 404, 409, 422]}
    config = schemathesis.Config.from_dict(
        {
            "generation": {"database": "none", "with-security-parameters": False},
            "checks": {"positive_data_acceptance": expected},
        }
    )
    document = narrowed(server.call("GET", "/openapi.json", key=None).json)
    schema = schemathesis.openapi.from_dict(document, config=config)
    headers = {"Authorization": f"Basic {SECRETS['admin']}"}
    statuses: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            def check(case: Case[Any]) -> None:
                response = case.call_and_validate(base_url=server.url, headers=headers, timeout=20)
                statuses.setdefault(f"{case.method.upper()} {case.operation.path}", set()).add(response.status_code)

            try:
                check()
            except Unsatisfiable:  # an operation without parameters has no wrong input
                assert mode is schemathesis.GenerationMode.NEGATIVE
    assert not any(status >= 500 for seen in statuses.values() for status in seen)
    answered = {label for label, seen in statuses.items() if seen & {200, 201}}
    unanswered = {f"POST {PREFIX}tools/certificates/extractpfx", f"PUT {PREFIX}tools/publish/{{config}}"}
    assert set(statuses) - answered <= unanswered, statuses

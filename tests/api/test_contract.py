"""The running API against the contract's OpenAPI file, by schemathesis: all checks, but for what is argued below."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case

from api.material import make_leaf
from api.server import API, SECRETS, run_api

CONTRACT = Path(__file__).parent / "waap-certificates-v4.0.openapi.yaml"
EXAMPLES = 60  # for each operation and test: all of this file runs in less than a minute


def load(**parameters: object) -> schemathesis.schemas.BaseSchema:
    config = schemathesis.Config.from_dict(
        {
            "parameters": parameters,
            "generation": {"database": "none", "with-security-parameters": False},
            "checks": {
                # A string that the schema allows is seldom a certificate or a domain name, so 400 is as right as 201;
                # most ids name no certificate: 404. 409: the fuzzer's earlier POST made that id from other input.
                "positive_data_acceptance": {"expected-statuses": ["2xx", 400, 404, 409, 422]},
            },
        }
    )
    return schemathesis.openapi.from_path(CONTRACT, config=config)


anywhere = load()
in_prod = load(**{"path.config": "prod"})
of_an_entry = load(**{"path.config": "prod", "path.entry_id": "kept"})
generating = load(**{"path.config": "prod", "query.domains": ["www.example.test"]})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    # The fuzzer tries wrong keys as well, more of them than anybody may.
    with run_api(tmp_path_factory.mktemp("api"), access={"failures_per_minute": 10_000}) as running:
        yield running


@pytest.fixture
def with_entry(server: API) -> API:
    """The server with the entry `kept` in it, whatever was deleted before."""
    server.call("DELETE", "/api/v4.0/conf/prod/certificates/kept")
    assert server.upload("kept", make_leaf(server.ca, "kept.example.test")).status == 201
    return server


def check(case: Case[Any], server: API) -> None:
    response = case.call_and_validate(
        base_url=server.url, headers={"Authorization": f"Basic {SECRETS['admin']}"}, timeout=20
    )
    assert response.status_code < 500


bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,  # a found defect stays found; other seeds are tried by hand
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@anywhere.parametrize()
@bounded
def test_any_input_is_answered_as_the_contract_says(case: Case[Any], server: API) -> None:
    check(case, server)


@in_prod.parametrize()
@bounded
def test_any_input_for_a_configuration_that_exists_is_answered_as_the_contract_says(
    case: Case[Any], server: API
) -> None:
    check(case, server)


@of_an_entry.parametrize()
@bounded
def test_any_input_for_an_entry_that_exists_is_answered_as_the_contract_says(case: Case[Any], with_entry: API) -> None:
    check(case, with_entry)


@generating.include(method="POST").parametrize()
@bounded
def test_any_body_of_a_generation_is_answered_as_the_contract_says(case: Case[Any], server: API) -> None:
    check(case, server)

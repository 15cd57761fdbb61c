"""Every route that changes something leaves exactly one record; a new one without a case here fails."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from api.audited import CASES, DIALECTS, EXEMPT, run_audited_api, writing_routes
from api.renewing import NATIVE
from api.server import API

Running = tuple[API, FastAPI]
SENT = [(name, dialect) for name in CASES for dialect in (DIALECTS if "{dialect}" in name else DIALECTS[:1])]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with run_audited_api(tmp_path_factory.mktemp("api")) as pair:
        yield pair


def test_there_is_a_case_for_every_writing_route(running: Running) -> None:
    assert writing_routes(running[1]) == set(CASES) | set(EXEMPT)
    assert not set(CASES) & set(EXEMPT)


@pytest.mark.parametrize(("name", "dialect"), SENT, ids=lambda part: part)
def test_a_change_leaves_exactly_one_record(running: Running, name: str, dialect: str) -> None:
    api, _ = running
    method, path = name.split(" ")
    case = CASES[name]
    answer = case.send(api, dialect)
    assert answer.status in {200, 201, 202, 204}, answer.body
    listed = api.call("GET", f"{NATIVE}/audit?limit=50").json["items"]
    own = [item for item in listed if item["request"]["id"] == answer.headers["x-request-id"]]
    assert [item["action"] for item in own] == [action for action in (case.action, case.asked) if action]
    record = own[0]
    assert record["request"] == {
        "id": answer.headers["x-request-id"],
        "method": method,
        "route": path.replace("{dialect}", dialect),
    }
    assert record["who"] == {"kind": "api-key", "name": "admin", "key_id": record["who"]["key_id"], "role": "admin"}
    assert record["address"] == "127.0.0.1"
    assert record["config"] == ("prod" if "{config}" in path or "/operations/" in path else "")


def test_a_request_that_is_refused_or_changes_nothing_leaves_no_record_of_a_change(running: Running) -> None:
    api, _ = running
    for answer in (
        api.call("DELETE", "/api/v4.3/conf/prod/certificates/unknown"),
        api.call("PUT", "/api/v4.3/conf/prod/certificates/placeholder"),
        api.call("POST", f"{NATIVE}/maintenance", document={"on": False}),
    ):
        listed = api.call("GET", f"{NATIVE}/audit?limit=50").json["items"]
        assert answer.headers["x-request-id"] not in {item["request"]["id"] for item in listed}

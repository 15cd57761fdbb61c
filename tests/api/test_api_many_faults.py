"""Small requests with very many faults: answered shortly, because nobody looks at all of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from api.server import API, CERTS
from api.shapes import assert_validation

V4 = "/api/v4.3"
# How often: about 1 MiB of JSON, the most that a body may have.
MANY = {
    "objects": ("POST", f"{CERTS}/big", b'{"provider_links":[%s]}', b"{}", 340_000),
    "lists": ("POST", f"{CERTS}/big", b'{"crl":[%s]}', b"1", 500_000),
    "ignored": ("POST", f"{CERTS}/big", b'{"san":[%s]}', b"1", 500_000),
    "names": ("POST", f"{V4}/conf/prod/server-groups/g", b'{"name":"x","server_names":[%s]}', b"1", 500_000),
    "balancers": ("POST", f"{V4}/conf/prod/load-balancers/regions", b'{"lbs":[%s]}', b"{}", 340_000),
    "buckets": ("PUT", f"{V4}/tools/publish/prod", b"[%s]", b"{}", 340_000),
    "networks": ("POST", "/api/certorbit/v1/api-keys", b'{"name":"x","allowed_addresses":[%s]}', b"1", 500_000),
}


@pytest.mark.parametrize(("method", "path", "around", "item", "times"), MANY.values(), ids=MANY)
def test_a_long_list_of_faults_gets_a_short_answer(
    api: API, method: str, path: str, around: bytes, item: bytes, times: int
) -> None:
    answer = api.call(method, path, body=around % b",".join([item] * times))
    assert answer.status == 422
    assert len(answer.body) < 1000


@pytest.mark.parametrize(
    ("path", "around"),
    [
        ("/api/certorbit/v1/api-keys", b"{%s}"),
        (f"{V4}/conf/prod/load-balancers/regions", b'{"lbs":[{"id":"x","regions":{%s}}]}'),
    ],
    ids=["fields", "a mapping"],
)
def test_so_does_an_object_with_very_many_members(api: API, path: str, around: bytes) -> None:
    answer = api.call("POST", path, body=around % b",".join(b'"%d":1' % number for number in range(90_000)))
    assert answer.status == 422
    assert [item["type"] for item in answer.json["detail"]] == ["too_long"]


def test_the_first_faults_are_shown_and_the_others_counted(api: API) -> None:
    answer = api.call("POST", "/api/certorbit/v1/api-keys", body=b"{%s}" % b",".join(b'"a%d":1' % n for n in range(60)))
    assert_validation(answer, "body", "a0")
    items = answer.json["detail"]
    assert len(items) == 21
    assert items[-1] == {"loc": [], "msg": "and 41 more", "type": "more_errors"}  # the name is missing, too


def test_so_do_very_many_domains(api: API) -> None:
    answer = api.call("POST", f"{CERTS}/big?" + "&".join(["domains=a"] * 1001))
    assert_validation(answer, "query", "domains")


def test_every_list_and_mapping_of_a_request_is_bounded(api: API) -> None:
    document = api.call("GET", "/openapi.json", key=None).json
    schemas = document["components"]["schemas"]
    seen: list[str] = []

    def walk(schema: dict[str, Any], place: str) -> Iterator[str]:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        seen.append(place)
        if schema.get("type") == "array":
            if "maxItems" not in schema:
                yield place
            yield from walk(schema["items"], f"{place}[]")
        if isinstance(schema.get("additionalProperties"), dict):
            if "maxProperties" not in schema:
                yield place
            yield from walk(schema["additionalProperties"], f"{place}{{}}")
        for name, member in schema.get("properties", {}).items():
            yield from walk(member, f"{place}.{name}")
        for option in (*schema.get("anyOf", ()), *schema.get("allOf", ()), *schema.get("oneOf", ())):
            yield from walk(option, place)

    def walk_all() -> Iterator[str]:
        for path, item in document["paths"].items():
            for method, operation in item.items():
                contents = operation.get("requestBody", {}).get("content", {})
                for content in contents.values():
                    yield from walk(content["schema"], f"{method} {path} ")
                for parameter in operation.get("parameters", ()):
                    yield from walk(parameter["schema"], f"{method} {path} ?{parameter['name']}")

    assert list(walk_all()) == []
    assert "post /api/v4.0/conf/{config}/certificates/{entry_id} .provider_links[].link" in seen

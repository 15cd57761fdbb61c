"""Server groups in every dialect: create, repeat, change, delete; what they may name."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.material import Pair
from api.server import API
from api.shapes import assert_error, assert_validation

DIALECTS = ("v4", "v4.0", "v4.3")
FIELDS = [
    "id",
    "name",
    "description",
    "server_names",
    "security_policy",
    "routing_profile",
    "proxy_template",
    "challenge_cookie_domain",
    "ssl_certificate",
    "client_certificate",
    "client_certificate_mode",
    "mobile_application_group",
]
CREATED = {"message": "Successfully created entry"}
# As a client of v4.3 sends it: empty certificates and groups are left out.
SENT = {
    "name": "www.example.test",
    "description": "",
    "server_names": ["www.example.test", "example.test"],
    "security_policy": "policy-1",
    "routing_profile": "__default__",
    "proxy_template": "a1b2c3d4e5f6",
    "challenge_cookie_domain": "$host",
}


def groups(dialect: str = "v4.3", config: str = "prod") -> str:
    return f"/api/{dialect}/conf/{config}/server-groups"


def get(api: API, name: str, dialect: str = "v4.3") -> dict[str, Any]:
    answer = api.call("GET", f"{groups(dialect)}/{name}")
    assert answer.status == 200, answer.body
    found = answer.json
    assert isinstance(found, dict)
    return found


def post(api: API, name: str, /, **fields: Any) -> None:
    answer = api.call("POST", f"{groups()}/{name}", document={**SENT, **fields})
    assert (answer.status, answer.json) == (201, CREATED), answer.body


def version(api: API) -> int:
    return int(api.call("GET", "/api/v4.3/conf/configs/prod").json["version"])


@pytest.fixture
def certificate(api: API, leaf: Pair) -> str:
    name = api.new_name()
    assert api.upload(name, leaf).status == 201
    return name


@pytest.fixture
def client_ca(api: API) -> str:
    name = api.new_name()
    document = {"cert_body": api.ca.cert_pem, "side": "clientCA"}
    assert api.call("POST", f"/api/v4.3/conf/prod/certificates/{name}", document=document).status == 201
    return name


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_built_in_server_group_comes_first_and_serves_the_placeholder(fresh_api: API, dialect: str) -> None:
    listed = fresh_api.call("GET", groups(dialect)).json
    assert listed["total"] == 1
    assert list(listed["items"][0]) == FIELDS
    assert listed["items"][0] == {
        "id": "__default__",
        "name": "default",
        "description": "What no other server group serves",
        "server_names": ["__default__"],
        "security_policy": "",
        "routing_profile": "",
        "proxy_template": "",
        "challenge_cookie_domain": "",
        "ssl_certificate": "placeholder",
        "client_certificate": "",
        "client_certificate_mode": "off",
        "mobile_application_group": "",
    }
    for name in ("0a", "A-group"):
        assert fresh_api.call("POST", f"{groups(dialect)}/{name}", document=SENT).status == 201
    listed = fresh_api.call("GET", groups(dialect)).json
    assert [item["id"] for item in listed["items"]] == ["__default__", "0a", "A-group"]
    assert listed["total"] == 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_server_group_reads_back_as_it_was_written(api: API, dialect: str, certificate: str, client_ca: str) -> None:
    name = api.new_name()
    sent = {
        **SENT,
        "id": name,
        "description": "two\nlines",
        "server_names": ["b.example.test", "a.example.test", "b.example.test", " Käse.example "],
        "ssl_certificate": certificate,
        "client_certificate": client_ca,
        "client_certificate_mode": "optional",
        "mobile_application_group": "apps",
    }
    answer = api.call("POST", f"{groups(dialect)}/{name}/", document=sent)
    assert (answer.status, answer.json) == (201, CREATED)
    assert get(api, name, dialect) == sent
    listed = api.call("GET", groups(dialect)).json["items"]
    assert next(item for item in listed if item["id"] == name) == sent


def test_what_is_left_out_is_empty_and_blanks_around_texts_go(api: API) -> None:
    name = api.new_name()
    sent = {"name": "  shop\t", "description": "\n a b \n", "proxy_template": " t ", "unknown": {"a": 1}}
    assert api.call("POST", f"{groups()}/{name}", document=sent).status == 201
    got = get(api, name)
    assert (got["name"], got["description"], got["proxy_template"]) == ("shop", "a b", "t")
    assert (got["server_names"], got["ssl_certificate"], got["client_certificate"]) == ([], "", "")
    assert got["client_certificate_mode"] == "off"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_id_may_stand_in_the_body_of_a_post_to_the_list(api: API, dialect: str) -> None:
    name = f"{api.new_name()}_A.{dialect}"
    answer = api.call("POST", groups(dialect), document={**SENT, "id": name})
    assert (answer.status, answer.json) == (201, CREATED)
    assert get(api, name)["id"] == name
    for bad in ("", "-a", "a/b", "a" * 64, "ä", ".."):
        assert_validation(api.call("POST", groups(dialect), document={**SENT, "id": bad}), "body", "id")
    assert_validation(api.call("POST", groups(dialect), document=SENT), "body", "id")


def test_the_id_in_the_body_must_be_the_paths(api: API) -> None:
    for method in ("POST", "PUT"):
        answer = api.call(method, f"{groups()}/__default__", document={**SENT, "id": "other"})
        assert_error(answer, 400, says="id: the body says 'other'")


@pytest.mark.parametrize("bad", ["-a", "a" * 64, "%C3%A4", "a%00"])
def test_an_id_of_another_form_is_malformed(api: API, bad: str) -> None:
    assert_validation(api.call("POST", f"{groups()}/{bad}", document=SENT), "path", "site_id")
    assert_validation(api.call("GET", f"{groups()}/{bad}"), "path", "site_id")


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"name": None}, ("body", "name")),
        ({"name": " \n"}, ("body", "name")),
        ({"name": "x" * 251}, ("body", "name")),
        ({"name": "a\x00"}, ("body", "name")),
        ({"description": "\x07"}, ("body", "description")),
        ({"server_names": "www.example.test"}, ("body", "server_names")),
        ({"server_names": [1]}, ("body", "server_names", 0)),
        ({"server_names": ["a\nb"]}, ("body", "server_names", 0)),
        ({"ssl_certificate": 7}, ("body", "ssl_certificate")),
        ({"client_certificate_mode": "required"}, ("body", "client_certificate_mode")),
        ({"client_certificate_mode": True}, ("body", "client_certificate_mode")),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_malformed_fields_are_refused(
    api: API, method: str, fields: dict[str, object], loc: tuple[str | int, ...]
) -> None:
    assert_validation(api.call(method, f"{groups()}/__default__", document={**SENT, **fields}), *loc)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"name": "\\ud800"}', b"\xff"])
def test_a_body_that_is_no_object_is_refused(api: API, body: bytes) -> None:
    for method in ("POST", "PUT"):
        assert api.call(method, f"{groups()}/a", body=body).status == 422
    assert api.call("POST", groups(), body=body).status == 422


def test_a_new_server_group_needs_a_name(api: API) -> None:
    assert_validation(api.call("POST", f"{groups()}/a", document={"server_names": []}), "body", "name")


def test_a_repeated_post_changes_nothing_and_another_one_is_a_conflict(api: API) -> None:
    name = api.new_name()
    post(api, name)
    before, number = get(api, name), version(api)
    post(api, name, name=" www.example.test ")
    assert (get(api, name), version(api)) == (before, number)
    other = api.call("POST", f"{groups()}/{name}", document={**SENT, "server_names": []})
    assert_error(other, 409, says=f"There is a server group '{name}'")
    assert_error(api.call("POST", f"{groups()}/__default__", document=SENT), 409, says="'__default__'")
    assert get(api, name) == before


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
    post(api, name)
    path = f"{groups(dialect)}/{name}"
    put = api.call("PUT", path, document={"description": dialect})
    assert (put.status, put.body) == (200, updated)
    assert get(api, name)["description"] == dialect
    delete = api.call("DELETE", path)
    assert (delete.status, delete.body) == (200, deleted)
    assert_error(api.call("GET", path), 404, says=name)
    assert_error(api.call("DELETE", path), 404, says=name)
    assert_error(api.call("PUT", path, document=SENT), 404, says=name)


def test_put_writes_the_fields_that_are_given(api: API, certificate: str) -> None:
    name = api.new_name()
    post(api, name, ssl_certificate=certificate)
    before = get(api, name)
    assert api.call("PUT", f"{groups()}/{name}", document={"server_names": ["x.example.test"]}).status == 200
    assert get(api, name) == {**before, "server_names": ["x.example.test"]}
    number = version(api)
    assert api.call("PUT", f"{groups()}/{name}", document={"server_names": ["x.example.test"]}).status == 200
    assert version(api) == number, "nothing differs"


def test_a_whole_server_group_without_a_certificate_has_none(api: API, certificate: str, client_ca: str) -> None:
    name = api.new_name()
    mtls = {"client_certificate": client_ca, "client_certificate_mode": "on"}
    post(api, name, ssl_certificate=certificate, mobile_application_group="apps", **mtls)
    assert api.call("PUT", f"{groups()}/{name}", document=SENT).status == 200
    got = get(api, name)
    assert (got["ssl_certificate"], got["client_certificate"], got["client_certificate_mode"]) == ("", "", "off")
    assert got["mobile_application_group"] == ""


def test_the_built_in_server_group_can_be_changed_but_not_deleted(fresh_api: API) -> None:
    path = f"{groups()}/__default__"
    assert fresh_api.call("PUT", path, document={"description": "mine", "ssl_certificate": ""}).status == 200
    got = get(fresh_api, "__default__")
    assert (got["description"], got["ssl_certificate"], got["name"]) == ("mine", "", "default")
    assert [item["id"] for item in fresh_api.call("GET", groups()).json["items"]] == ["__default__"]
    assert_error(fresh_api.call("DELETE", path), 400, says="built in")
    assert get(fresh_api, "__default__") == got


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_certificate_that_can_not_stand_there_is_refused_by_name(
    api: API, dialect: str, certificate: str, client_ca: str
) -> None:
    name = api.new_name()
    post(api, name)
    for fields, says in (
        ({"ssl_certificate": "nowhere"}, "ssl_certificate: there is no certificate 'nowhere'"),
        ({"ssl_certificate": "Not An Id"}, "ssl_certificate: there is no certificate 'Not An Id'"),
        ({"ssl_certificate": client_ca}, f"ssl_certificate: the certificate '{client_ca}' is for side clientCA"),
        ({"client_certificate": "nowhere"}, "client_certificate: there is no certificate 'nowhere'"),
        (
            {"client_certificate": certificate},
            f"client_certificate: the certificate '{certificate}' is for side server",
        ),
    ):
        assert_error(api.call("PUT", f"{groups(dialect)}/{name}", document=fields), 400, says=says)
        refused = api.call("POST", f"{groups(dialect)}/{api.new_name()}", document={**SENT, **fields})
        assert_error(refused, 400, says=says)
    assert get(api, name)["ssl_certificate"] == ""


def test_an_unknown_configuration_has_no_server_groups(api: API) -> None:
    for method, path in (("GET", ""), ("GET", "/a"), ("POST", "/a"), ("POST", ""), ("PUT", "/a"), ("DELETE", "/a")):
        document = {**SENT, "id": "a"} if method in {"POST", "PUT"} else None
        answer = api.call(method, groups(config="nowhere") + path, document=document)
        assert_error(answer, 404, says="There is no configuration 'nowhere'")


def test_who_may_only_read_writes_no_server_group(api: API) -> None:
    assert api.call("GET", groups(), key="reader").status == 200
    for method in ("POST", "PUT", "DELETE"):
        assert_error(api.call(method, f"{groups()}/a", key="reader", document=SENT), 403)
        assert_error(api.call(method, f"{groups()}/a", key=None, document=SENT), 401)


def test_ten_writes_at_once_lose_none(api: API) -> None:
    names, before = [api.new_name() for _ in range(10)], version(api)
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda name: api.call("POST", f"{groups()}/{name}", document=SENT).status, names))
    assert made == [201] * 10
    assert set(names) <= {item["id"] for item in api.call("GET", groups()).json["items"]}
    assert version(api) == before + 10


def test_ten_changes_of_different_fields_at_once_lose_none(api: API) -> None:
    name = api.new_name()
    post(api, name)
    fields = [field for field in FIELDS if get(api, name)[field].__class__ is str and "certificate" not in field][1:]
    with ThreadPoolExecutor(10) as pool:
        statuses = list(
            pool.map(lambda field: api.call("PUT", f"{groups()}/{name}", document={field: "new"}).status, fields)
        )
    assert set(statuses) == {200}
    assert {get(api, name)[field] for field in fields} == {"new"}

"""Every way by which an error can leave, in the contract's shapes; nothing of ours or of the input is shown."""

import base64

import pytest

from api.material import make_leaf
from api.server import API, CERTS
from api.shapes import assert_error, assert_validation
from certorbit.api.errors import STATUS, answer_error
from certorbit.errors import (
    Broken,
    CertorbitError,
    IssuerRefused,
    Kind,
    LostRace,
    Publishing,
    RateLimited,
    Unreachable,
)


def all_errors() -> list[type[CertorbitError]]:
    found, waiting = [], [CertorbitError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting.extend(kind.__subclasses__())
    return found


def make_error(kind: type[CertorbitError]) -> CertorbitError:
    if issubclass(kind, IssuerRefused):
        return kind("It broke.", type="urn:x", detail="It broke.")
    if issubclass(kind, Unreachable):
        return kind("It broke.", subject="database", phase="database")
    return kind("It broke.")


def test_every_kind_has_one_status_and_no_row_is_left_over() -> None:
    assert set(STATUS) == set(Kind)


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_becomes_an_answer(kind: type[CertorbitError]) -> None:
    answer = answer_error(make_error(kind), reference="ref-1")
    assert answer.status_code == STATUS[kind.kind]
    if answer.status_code == 500:
        assert b"It broke" not in answer.body
        assert b"ref-1" in answer.body
    else:
        assert b"It broke" in answer.body


NUL_CURSOR = base64.urlsafe_b64encode(b"2026-01-01T00:00:00+00:00 a\x00").decode().rstrip("=")
ROUTES_OF_ERRORS = [
    pytest.param("GET", "/nothing", 404, id="404/outside the API"),
    pytest.param("GET", "/api/v9/conf/prod/certificates", 404, id="404/unknown dialect"),
    pytest.param("GET", "/api/v4.0/conf/unknown/certificates", 404, id="404/unknown configuration"),
    pytest.param("GET", "/api/v4.0/conf/configs/unknown", 404, id="404/unknown configuration by itself"),
    pytest.param("GET", f"{CERTS}/unknown", 404, id="404/unknown entry"),
    pytest.param("PUT", f"{CERTS}/unknown", 404, id="404/change unknown entry"),
    pytest.param("DELETE", f"{CERTS}/unknown", 404, id="404/delete unknown entry"),
    pytest.param("GET", f"{CERTS}/unknown/pem", 404, id="404/PEM of unknown entry"),
    pytest.param("GET", f"{CERTS}/unknown/pfx", 404, id="404/PFX of unknown entry"),
    pytest.param("POST", "/api/v4.0/conf/unknown/certificates/a?domains=a.example.test", 404, id="404/post"),
    pytest.param("GET", "/api/certorbit/v1/operations/unknown", 404, id="404/unknown operation"),
    pytest.param("DELETE", "/api/certorbit/v1/api-keys/unknown", 404, id="404/unknown key"),
    pytest.param("POST", f"{CERTS}/a", 400, id="400/neither upload nor domains"),
    pytest.param("POST", f"{CERTS}/a?domains=", 400, id="400/only empty domains"),
    pytest.param("POST", f"{CERTS}/a?domains=no_name", 400, id="400/bad name"),
    pytest.param("POST", f"{CERTS}/a?domains=*.example.test", 400, id="400/wildcard without DNS-01"),
    pytest.param("POST", f"{CERTS}/placeholder?domains=a.example.test", 400, id="400/placeholder"),
    pytest.param("PUT", f"{CERTS}/placeholder", 400, id="400/change placeholder"),
    pytest.param("DELETE", f"{CERTS}/placeholder", 400, id="400/delete placeholder"),
    pytest.param("GET", "/api/certorbit/v1/operations?cursor=zzz", 400, id="400/bad cursor"),
    pytest.param("GET", f"/api/certorbit/v1/operations?cursor={NUL_CURSOR}", 400, id="400/NUL in a cursor"),
    pytest.param("PATCH", CERTS, 405, id="405/PATCH"),
    pytest.param("DELETE", CERTS, 405, id="405/delete a list"),
]


@pytest.mark.parametrize(("method", "path", "status"), ROUTES_OF_ERRORS)
def test_an_error_has_code_and_message(api: API, method: str, path: str, status: int) -> None:
    assert_error(api.call(method, path), status)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (CERTS, "GET, HEAD"),
        (f"{CERTS}/a", "DELETE, GET, HEAD, POST, PUT"),
        ("/api/certorbit/v1/api-keys", "GET, HEAD, POST"),
        ("/healthz", "GET, HEAD"),
        ("/api/certorbit/v1/api-keys/x", "DELETE, PATCH"),
    ],
)
def test_405_names_all_methods_that_the_path_takes(api: API, path: str, allowed: str) -> None:
    for method in ("PROPFIND", "OPTIONS"):
        answer = api.call(method, path)
        assert_error(answer, 405)
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("method", "path", "loc"),
    [
        ("GET", f"{CERTS}/UPPER", ("path", "entry_id")),
        ("GET", f"{CERTS}/{'a' * 64}", ("path", "entry_id")),
        ("GET", f"{CERTS}/a-", ("path", "entry_id")),
        ("GET", f"{CERTS}/a%0A", ("path", "entry_id")),
        ("GET", f"{CERTS}/a%00", ("path", "entry_id")),
        ("PUT", f"{CERTS}/a?le_auto_renew=yes", ("query", "le_auto_renew")),
        ("PUT", f"{CERTS}/a?le_auto_renew=1", ("query", "le_auto_renew")),
        ("PUT", f"{CERTS}/a?le_auto_replace=", ("query", "le_auto_replace")),
        ("GET", "/api/certorbit/v1/operations?limit=0", ("query", "limit")),
        ("GET", "/api/certorbit/v1/operations?limit=x", ("query", "limit")),
        ("GET", "/api/certorbit/v1/operations?state=gone", ("query", "state")),
        ("GET", "/api/certorbit/v1/operations?config=%00", ("query", "config")),
        ("GET", "/api/certorbit/v1/operations/%00", ("path", "operation_id")),
    ],
)
def test_a_parameter_of_another_type_is_422(api: API, method: str, path: str, loc: tuple[str, ...]) -> None:
    assert_validation(api.call(method, path), *loc)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        pytest.param(b"{", ("body", 1), id="not JSON"),
        pytest.param(b"[]", ("body",), id="a list"),
        pytest.param(b"null", ("body",), id="null"),
        pytest.param(b'"text"', ("body",), id="a string"),
        pytest.param(b"\xff\xfe", ("body", 0), id="no text"),
        pytest.param(b"[" * 100_000, ("body", 1024), id="deeper than any parser should go"),
        pytest.param(b'{"cert_body": null}', ("body", "cert_body"), id="null for text"),
        pytest.param(b'{"cert_body": 5}', ("body", "cert_body"), id="number for text"),
        pytest.param(b'{"le_auto_renew": "true"}', ("body", "le_auto_renew"), id="text for boolean"),
        pytest.param(b'{"le_auto_renew": 1}', ("body", "le_auto_renew"), id="number for boolean"),
        pytest.param(b'{"san": "a"}', ("body", "san"), id="text for list"),
        pytest.param(b'{"san": [1]}', ("body", "san", 0), id="number in list of texts"),
        pytest.param(b'{"provider_links": [{}]}', ("body", "provider_links", 0, "link"), id="half a link"),
        pytest.param(
            b'{"provider_links": [{"link": "a\\u0000", "provider": "p", "region": "r"}]}',
            ("body", "provider_links", 0, "link"),
            id="NUL in a link",
        ),
    ],
)
def test_a_body_of_another_type_is_422(api: API, body: bytes, loc: tuple[str | int, ...]) -> None:
    answer = api.call("POST", f"{CERTS}/a?domains=a.example.test", body=body)
    if loc == ("body", 1024):
        assert answer.status == 422
    else:
        assert_validation(answer, *loc)


def test_a_validation_error_never_quotes_a_private_key(api: API) -> None:
    leaf = make_leaf(api.ca, "q.example.test")
    document = {"cert_body": leaf.cert_pem, "private_key": [leaf.key_pem], leaf.key_pem: 1, "san": leaf.key_pem}
    assert_validation(api.call("POST", f"{CERTS}/a", document=document), "body", "private_key")


def test_refused_material_is_400_and_names_the_field(api: API) -> None:
    leaf, other = make_leaf(api.ca, "q.example.test"), make_leaf(api.ca, "q.example.test")
    assert_error(
        api.call("POST", f"{CERTS}/a", document={"cert_body": "text", "private_key": "text"}), 400, says="cert_body"
    )
    wrong = {"cert_body": leaf.cert_pem, "private_key": other.key_pem}
    assert_error(api.call("POST", f"{CERTS}/a", document=wrong), 400, says="private_key")
    assert_error(
        api.call("POST", f"{CERTS}/a", document={"cert_body": leaf.cert_pem, "side": "moon"}), 400, says="side"
    )
    crl = {"cert_body": api.ca.cert_pem, "side": "clientCA", "crl": ["no CRL"]}
    assert_error(api.call("POST", f"{CERTS}/a", document=crl), 400, says="crl: item 1")


def test_an_unreachable_database_is_503_with_the_contracts_body(api: API) -> None:
    api.ready.problem = Unreachable("The database db.example.test does not answer.", subject="db", phase="database")
    assert_error(api.call("GET", "/readyz", key=None), 503, says="does not answer")


@pytest.mark.parametrize(
    "error", [Publishing("A publish runs."), LostRace("busy"), RateLimited("no", type="t", detail="d")]
)
def test_what_is_busy_is_503_and_says_when_to_come_back(error: CertorbitError) -> None:
    answer = answer_error(error, reference="r")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "problem", [ValueError("secret of ours"), Broken("secret of ours"), KeyError("secret of ours")]
)
def test_a_defect_is_500_with_a_reference_that_the_log_knows(api: API, problem: Exception) -> None:
    class Failing:
        async def read(self, work: object) -> object:
            raise problem

    from dataclasses import replace

    from api.server import serve
    from certorbit.api.app import make_app

    parts = replace(api.parts, store=Failing())  # type: ignore[arg-type]
    with serve(make_app(parts)) as port:
        failing = API(port, parts, api.clock, api.workflow, api.ready, api.ca, api.log_text)
        answer = failing.call("GET", "/.well-known/acme-challenge/abc", key=None)
    assert_error(answer, 500, says=answer.headers["x-request-id"])
    assert "secret of ours" not in answer.body.decode()
    entry = next(e for e in api.log_events() if e.get("reference") == answer.headers["x-request-id"])
    assert "secret of ours" in entry["exception"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v4.0/conf/%00/certificates",
        "/api/v4.0/conf/%ff%fe/certificates",
        "/api/v4.0/conf/%ed%a0%80/certificates",
        "/api/v4.0/conf/%F0%9F%92%A9/certificates",
        f"/api/v4.0/conf/{'x' * 5000}/certificates",
        "/api/v4.0/conf/../certificates",
        "/api/v4.0/conf//certificates",
        "//api/v4.0/conf/prod/certificates",
        "/api/v4.0/conf/prod/certificates//",
        "/api/v4.0/conf/configs/%00",
        "/.well-known/acme-challenge/%00",
        "/.well-known/acme-challenge/..%2f..%2fetc%2fpasswd",
        "/%00",
    ],
)
def test_odd_paths_are_404(api: API, path: str) -> None:
    assert_error(api.call("GET", path), 404)


@pytest.mark.parametrize("value", ["%00", "%ff", "a%00b", "UPPER", "a" * 64])
def test_replacing_what_can_be_no_id_is_400(api: API, value: str) -> None:
    name = api.new_name()
    api.generate(name, "r.example.test")
    assert_error(api.call("PUT", f"{CERTS}/{name}?replace_cert_id={value}"), 400, says="replace_cert_id")

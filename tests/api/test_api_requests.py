"""What happens around every request: sizes, HEAD, headers, request ids, logs."""

import http.client
import socket
from collections.abc import Iterator

import pytest

from api.material import make_leaf
from api.server import API, CERTS, SECRETS, run_api
from api.shapes import assert_error

LIMIT = 65_536


@pytest.fixture(scope="module")
def small_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    with run_api(tmp_path_factory.mktemp("api"), max_body_bytes=LIMIT) as running:
        yield running


def chunks(count: int, size: int = 8192) -> Iterator[bytes]:
    for _ in range(count):
        yield b" " * size


def post_chunked(api: API, count: int) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20)
    headers = {"Authorization": f"Basic {SECRETS['admin']}"}
    connection.request("POST", f"{CERTS}/a", body=chunks(count), headers=headers, encode_chunked=True)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_413(small_api: API) -> None:
    assert_error(small_api.call("POST", f"{CERTS}/a", body=b" " * LIMIT), 400, says="cert_body")
    assert_error(small_api.call("POST", f"{CERTS}/a", body=b" " * (LIMIT + 1)), 413, says=str(LIMIT))


def test_a_chunked_body_is_counted_while_it_comes(small_api: API) -> None:
    assert post_chunked(small_api, 8)[0] == 400
    status, body = post_chunked(small_api, 9)
    assert status == 413
    assert b'"code":413' in body


def test_a_huge_announcement_is_refused_before_the_body_comes(small_api: API) -> None:
    request = (
        f"POST {CERTS}/a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {SECRETS['admin']}\r\n"
        "Content-Length: 99999999999999\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", small_api.port), timeout=20) as connection:
        connection.sendall(request.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_without_a_key_a_huge_body_is_401(small_api: API) -> None:
    assert_error(small_api.call("POST", f"{CERTS}/a", key=None, body=b" " * (LIMIT + 1)), 401)


@pytest.mark.parametrize(
    "path", [CERTS, f"{CERTS}/placeholder", f"{CERTS}/placeholder/pem", f"{CERTS}/unknown", "/healthz", f"{CERTS}/"]
)
def test_a_head_is_a_get_without_its_body(api: API, path: str) -> None:
    got, head = api.call("GET", path), api.call("HEAD", path)
    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["content-length"] == str(len(got.body))
    assert head.headers["content-type"] == got.headers["content-type"]


def test_a_head_needs_a_key_too(api: API) -> None:
    assert api.call("HEAD", CERTS, key=None).status == 401


@pytest.mark.parametrize("path", [CERTS, f"{CERTS}/placeholder/pem", "/api/nothing", "/healthz", "/nothing"])
@pytest.mark.parametrize("key", ["admin", None])
def test_every_answer_has_the_security_headers(api: API, path: str, key: str | None) -> None:
    headers = api.call("GET", path, key=key).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_the_docs_page_needs_nothing_that_its_policy_forbids(api: API) -> None:
    answer = api.call("GET", "/docs", key=None)
    page = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in page
    assert "style=" not in page
    assert "src=" not in page
    assert "/api/v4.0/conf/{config}/certificates/{entry_id}/pfx" in page
    assert answer.headers["content-security-policy"].count("sha256-") == 1


def test_every_request_has_an_id_of_its_own(api: API) -> None:
    ids = {api.call("GET", path).headers["x-request-id"] for path in (CERTS, CERTS, "/nothing", f"{CERTS}/UPPER")}
    assert len(ids) == 4


def test_one_log_line_names_route_status_and_key_but_no_query(api: API) -> None:
    answer = api.call("GET", "/api/certorbit/v1/operations?config=canary-in-query", key="reader")
    lines = [e for e in api.log_events() if e.get("request_id") == answer.headers["x-request-id"]]
    requests = [line for line in lines if line["event"] == "http.request"]
    assert len(requests) == 1
    line = requests[0]
    assert line["method"] == "GET"
    assert line["route"] == "/api/certorbit/v1/operations"
    assert line["status"] == 200
    assert isinstance(line["milliseconds"], float)
    assert line["key_id"].startswith("id-")
    assert "canary-in-query" not in api.log_text.getvalue()


def test_no_secret_is_ever_logged(api: API) -> None:
    leaf = make_leaf(api.ca, "log.example.test")
    headers = {"X-PFX-Password": "correct-horse-battery"}
    assert api.upload("logged", leaf).status == 201
    api.call("POST", f"{CERTS}/logged-too", document={"cert_body": leaf.cert_pem, "private_key": [leaf.key_pem]})
    api.call("POST", f"{CERTS}/logged-too", document={"cert_body": leaf.key_pem, "private_key": leaf.key_pem})
    api.call("GET", f"{CERTS}/logged/pfx", headers=headers)
    api.call("GET", f"{CERTS}/logged/pem")
    created = api.call("POST", "/api/certorbit/v1/api-keys", document={"name": "canary"}).json["key"]
    text = api.log_text.getvalue()
    assert "http.request" in text
    for secret in ("PRIVATE KEY", leaf.key_pem.splitlines()[1], "correct-horse", created, *SECRETS.values()):
        assert secret not in text


def test_a_client_that_leaves_does_no_harm(api: API) -> None:
    name = api.new_name()
    request = f"POST {CERTS}/{name}?domains=gone.example.test HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {SECRETS['admin']}\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        connection.sendall(f"{request}Content-Length: 500\r\n\r\n{{".encode())
    assert api.call("GET", CERTS).status == 200
    assert api.call("GET", f"{CERTS}/{name}").status == 404, "half a request makes nothing"

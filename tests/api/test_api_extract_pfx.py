"""What is in a PKCS#12 file: forms as clients send them, and as they don't."""

import os
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption, pkcs12

from api.material import Pair, make_leaf
from api.server import API, Answer
from api.shapes import assert_error, assert_validation

DIALECTS = ("v4", "v4.0", "v4.3")
PASSWORD = "pässwörd"  # not ASCII: PKCS#12 writes passwords in UTF-16


def make_store(api: API, leaf: Pair, *, password: str = PASSWORD) -> bytes:
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"www", leaf.key, leaf.certificate, [api.ca.certificate], encryption)


def form(**parts: bytes | str) -> tuple[bytes, str]:
    """Return body and content type of a form: bytes are files, texts are fields."""
    boundary = f"boundary-{os.urandom(8).hex()}"
    lines: list[bytes] = []
    for name, content in parts.items():
        head = EmailMessage()
        extra = {"filename": "a.pfx"} if isinstance(content, bytes) else {}
        head.add_header("Content-Disposition", "form-data", name=name, **extra)
        data = content if isinstance(content, bytes) else content.encode()
        lines += [f"--{boundary}\r\n".encode(), head.as_bytes().replace(b"\n", b"\r\n"), data, b"\r\n"]
    return b"".join([*lines, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def extract(api: API, *, dialect: str = "v4.3", key: str | None = "admin", **parts: bytes | str) -> Answer:
    body, content_type = form(**parts)
    return post(api, body, content_type, dialect=dialect, key=key)


def post(api: API, body: bytes, content_type: str, *, dialect: str = "v4.3", key: str | None = "admin") -> Answer:
    path = f"/api/{dialect}/tools/certificates/extractpfx"
    return api.call("POST", path, key=key, body=body, headers={"Content-Type": content_type})


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("password", [PASSWORD, ""])
def test_key_and_certificates_come_out(api: API, leaf: Pair, dialect: str, password: str) -> None:
    answer = extract(api, dialect=dialect, fileName=make_store(api, leaf, password=password), password=password)
    assert answer.status == 200, answer.body
    assert answer.json == {"private_key": leaf.key_pem, "certificate_body": leaf.cert_pem + api.ca.cert_pem}
    assert answer.headers["cache-control"] == "no-store"


def test_what_comes_out_can_be_uploaded_as_it_is(api: API, leaf: Pair) -> None:
    found = extract(api, fileName=make_store(api, leaf), password=PASSWORD).json
    name = api.new_name()
    document = {"cert_body": found["certificate_body"], "private_key": found["private_key"]}
    path = f"/api/v4.3/conf/prod/certificates/{name}"
    assert api.call("POST", path, document=document).status == 201
    assert api.call("GET", path).json["private_key"] == leaf.key_pem


def test_a_store_without_a_key_gives_its_certificates(api: API, leaf: Pair) -> None:
    store = pkcs12.serialize_key_and_certificates(None, None, None, [leaf.certificate], NoEncryption())
    assert extract(api, fileName=store, password="").json == {"private_key": "", "certificate_body": leaf.cert_pem}


def test_whoever_may_read_may_open_his_own_file(api: API, leaf: Pair) -> None:
    store = make_store(api, leaf)
    assert extract(api, key="reader", fileName=store, password=PASSWORD).status == 200
    assert_error(extract(api, key=None, fileName=store, password=PASSWORD), 401)


@pytest.mark.parametrize("wrong", ["", "wrong", "p\x00", "x" * 256])
def test_a_wrong_password_is_an_input_error(api: API, leaf: Pair, wrong: str) -> None:
    refused = extract(api, fileName=make_store(api, leaf), password=wrong)
    assert_error(refused, 400, says="password")
    assert "www.example.test" not in refused.body.decode()


@pytest.mark.parametrize("content", [b"", b"not a store", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_store_is_an_input_error(api: API, content: bytes) -> None:
    assert_error(extract(api, fileName=content, password=""), 400, says="fileName")


def test_a_damaged_store_is_an_input_error(api: API, leaf: Pair) -> None:
    store = make_store(api, leaf)
    assert_error(extract(api, fileName=store[: len(store) // 2], password=PASSWORD), 400, says="damaged")


def test_a_missing_field_is_a_validation_error(api: API, leaf: Pair) -> None:
    store = make_store(api, leaf)
    assert_validation(extract(api, fileName=store), "body", "password")
    assert_validation(extract(api, password=PASSWORD), "body", "fileName")
    assert_validation(extract(api, fileName="no file", password=PASSWORD), "body", "fileName")
    assert_validation(extract(api, fileName=store, password=PASSWORD.encode()), "body", "password")
    for content_type in ("application/json", "", "multipart/mixed; boundary=a"):
        assert_validation(post(api, b"{}", content_type), "body", "fileName")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/form-data"),
        (b"--a\r\n\x00: x\r\n\r\n", "multipart/form-data; boundary=a"),
        (b"--a\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a--\r\n", "multipart/form-data; boundary=a"),
        (form(**{f"part-{number}": b"x" for number in range(21)})[0], "multipart/form-data; boundary=other"),
    ],
)
def test_a_broken_form_is_an_input_error(api: API, body: bytes, content_type: str) -> None:
    assert_error(post(api, body, content_type), 400, says="not a form as it should be")


@pytest.mark.parametrize("boundary", ["a", ""])
def test_a_form_of_an_unknown_charset_or_without_parts_is_refused_all_the_same(api: API, boundary: str) -> None:
    answer = post(api, b"--a--\r\n", f"multipart/form-data; charset=nonsense; boundary={boundary}")
    assert answer.status in {400, 422}


def test_a_form_with_too_much_in_it_is_refused(api: API) -> None:
    body, content_type = form(**{f"part-{number}": b"x" for number in range(21)})
    assert_error(post(api, body, content_type), 400, says="Too many files")
    assert_error(extract(api, fileName=b"x", password="x" * 20_000), 400, says="maximum size")
    assert_error(extract(api, fileName=b"x", password="x" * 257), 400, says="password")
    assert_error(extract(api, fileName=b"x" * 1_100_000, password=""), 413)


def test_a_form_that_ends_too_early_lacks_its_last_field(api: API, leaf: Pair) -> None:
    body, content_type = form(fileName=make_store(api, leaf), password=PASSWORD)
    assert_validation(post(api, body[:-60], content_type), "body", "password")


def test_what_is_not_asked_for_is_ignored(api: API, leaf: Pair) -> None:
    answer = extract(api, note="hello", fileName=make_store(api, leaf), password=PASSWORD, other=b"file")
    assert answer.status == 200


def test_several_files_at_once_are_all_answered(api: API) -> None:
    leaves = [make_leaf(api.ca, f"n{number}.example.test") for number in range(5)]
    stores = [make_store(api, leaf) for leaf in leaves]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda store: extract(api, fileName=store, password=PASSWORD), stores))
    assert [answer.json["private_key"] for answer in answers] == [leaf.key_pem for leaf in leaves]


def test_no_key_and_no_password_is_logged(api: API, leaf: Pair) -> None:
    assert extract(api, fileName=make_store(api, leaf), password=PASSWORD).status == 200
    log = api.log_text.getvalue()
    assert "extractpfx" in log
    assert "PRIVATE KEY" not in log
    assert PASSWORD not in log

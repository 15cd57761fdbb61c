"""Uploads that take as much CPU as they may: few are read at once, and everybody else is served."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from api.server import API
from make import make_certificate, make_crl, make_key, pem

CALLERS, CAS = 10, 100
READERS = {"read_upload", "read_crls", "check_bundle_crls"}
CONF = "/api/v4.3/conf/prod/certificates"


@pytest.fixture(scope="module", name="bundle")
def _bundle() -> tuple[str, Sequence[str]]:
    """Return CAs of which two each have one name, and their lists, which say nothing of their keys."""
    keys = [make_key("ecdsa-p521", index=2000 + number) for number in range(CAS)]
    authorities = [
        make_certificate(key=key, subject=f"CN=CA {number // 2}", is_ca=True) for number, key in enumerate(keys)
    ]
    lists = [make_crl(authority, key) for authority, key in zip(authorities, keys, strict=True)]
    return pem(*authorities), [x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode() for der in lists]


def count_readers() -> int:
    """Return how many threads read an upload at this moment."""
    count = 0
    for innermost in sys._current_frames().values():
        frame: FrameType | None = innermost
        while frame is not None and frame.f_code.co_name not in READERS:
            frame = frame.f_back
        count += frame is not None
    return count


def test_uploads_are_read_two_at_once_and_others_are_answered_meanwhile(
    api: API, bundle: tuple[str, Sequence[str]]
) -> None:
    body, lists = bundle
    name = api.new_name()
    assert api.generate(name, f"{name}.example.test").status == 201
    seen = [0]
    with ThreadPoolExecutor(CALLERS) as callers:
        uploads = [
            callers.submit(
                api.call,
                "POST",
                f"{CONF}/{api.new_name()}",
                document={"cert_body": body, "side": "clientCA", "crl": lists},
            )
            for _ in range(CALLERS)
        ]
        answered = 0
        while not all(upload.done() for upload in uploads):
            seen.append(count_readers())
            if len(seen) % 50 == 0:
                assert api.call("GET", f"{CONF}/{name}/pem").status == 200
                answered += not all(upload.done() for upload in uploads)
    assert [upload.result().status for upload in uploads] == [201] * CALLERS
    assert max(seen) == 2
    assert answered > 0

"""The check that docs/dns-01.md gives to people who write an endpoint accepts our requests and nothing else."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from certorbit.solvers.dns.webhook import SIGNATURE, TIMESTAMP, sign

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "dns-01.md"
SECRET = "a-shared-secret-of-the-tests"
IsOurs = Callable[[dict[str, str], bytes, bytes], bool]


@pytest.fixture
def is_ours() -> IsOurs:
    found = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert found is not None
    names: dict[str, IsOurs] = {}
    exec(found[1], names)
    return names["is_ours"]


def test_the_documents_check_knows_our_signature(is_ours: IsOurs) -> None:
    body = b'{"action": "add"}'
    timestamp = str(int(time.time()))
    headers = {TIMESTAMP: timestamp, SIGNATURE: sign(body, timestamp=timestamp, secret=SECRET)}
    assert is_ours(headers, body, SECRET.encode())
    assert not is_ours(headers, body + b" ", SECRET.encode())
    assert not is_ours(headers, body, b"another-secret")
    old = str(int(timestamp) - 3600)
    assert not is_ours({TIMESTAMP: old, SIGNATURE: sign(body, timestamp=old, secret=SECRET)}, body, SECRET.encode())

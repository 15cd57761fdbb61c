"""No error shows a key that was put into the wrong place, even to the one who put it there."""

from urllib.parse import quote

import pytest

from api.server import API, CERTS
from make import make_key, write_key

KEY = write_key(make_key(index=431))
LINE = "".join(KEY.splitlines()[1:-1])
API_KEY = "co_" + "aB3-_" * 8 + "xyz"
NATIVE = "/api/certorbit/v1"


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", f"{CERTS}/x?domains={quote(LINE)}", None),
        ("POST", f"{CERTS}/x?domains={quote(KEY)}", None),
        ("PUT", f"{CERTS}/placeholder?replace_cert_id={quote(KEY)}", None),
        ("GET", f"/api/v4.0/conf/{API_KEY}/certificates", None),
        ("POST", f"{CERTS}/x", {"cert_body": KEY, "private_key": KEY, "side": LINE}),
        ("POST", f"{CERTS}/x", {"cert_body": f"-----BEGIN {LINE[48:108]}-----", "private_key": KEY}),
        ("POST", "/api/v4.3/conf/prod/server-groups", {"id": "a", "name": "a", "ssl_certificate": LINE}),
        ("POST", f"{NATIVE}/api-keys", {"name": "a", LINE: 1, KEY: 2, API_KEY: 3}),
        ("POST", f"{NATIVE}/api-keys", {"name": "a", "allowed_addresses": [f"1{API_KEY}"]}),
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(api: API, method: str, path: str, document: object) -> None:
    answer = api.call(method, path, document=document)
    assert answer.status in {400, 404, 422}
    text = answer.body.decode() + api.log_text.getvalue()
    assert not [LINE[start : start + 20] for start in range(48, 100) if LINE[start : start + 20] in text]
    assert API_KEY not in text


def test_a_message_still_says_how_a_key_has_to_look(api: API) -> None:
    answer = api.call("POST", f"{CERTS}/x", document={"cert_body": "-----", "private_key": "secret"})
    assert answer.status == 400
    answer = api.call("POST", f"{CERTS}/x", document={"cert_body": api.ca.cert_pem, "private_key": "secret"})
    assert "-----BEGIN PRIVATE KEY----- and -----END PRIVATE KEY-----" in answer.json["message"]

"""Who a client is by its certificate, after OpenSSL has let it in."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.cli.http_connection import read_client
from certorbit.errors import BadMaterial
from make import make_certificate, make_key

KEY = make_key("ecdsa-p256", 60)


def shown(*, days: float, subject: str = "O=Example,CN=edge-1") -> bytes:
    certificate = make_certificate(
        key=KEY, subject=subject, names=["edge-1.example.test"], days=days, now=datetime.now(UTC)
    )
    return certificate.public_bytes(Encoding.DER)


def test_a_clients_names_and_fingerprint_are_read() -> None:
    client = read_client(shown(days=1))
    assert (client.subject, client.san) == ("O=Example, CN=edge-1", ("edge-1.example.test",))
    assert len(client.fingerprint) == 64


def test_names_with_line_ends_stay_on_their_line() -> None:
    assert read_client(shown(days=1, subject="CN=edge\nforged")).subject == "CN=edge\\nforged"


def test_a_certificate_that_has_ended_since_the_session_began_is_refused() -> None:
    with pytest.raises(BadMaterial, match="has ended"):
        read_client(shown(days=-1))


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(BadMaterial, match="can't be read"):
        read_client(b"\x30\x03\x02\x01\x00")

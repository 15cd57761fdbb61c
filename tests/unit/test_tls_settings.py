"""`[tls]`: what can't be meant is refused at the start, not at the first handshake."""

import pytest
from pydantic import ValidationError

from certorbit.tls_settings import TLSSettings, split_entry


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"certificate": "www"}, "configuration/id"),
        ({"certificate": "prod/WWW"}, "configuration/id"),
        ({"certificate": "prod/a/b"}, "configuration/id"),
        ({"certificate_file": "a.pem"}, "go together"),
        ({"key_file": "a.key"}, "go together"),
        ({"client_certificates": "required"}, "need TLS"),
        ({"client_ca": "prod/clients"}, "need TLS"),
        ({"certificate": "prod/www", "client_certificates": "optional"}, "needs client_ca"),
        ({"certificate": "prod/www", "look_seconds": 0}, "greater than or equal"),
        ({"certificate": "prod/www", "hsts_seconds": -1}, "greater than or equal"),
        ({"cert": "prod/www"}, "Extra inputs"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        TLSSettings(**settings)  # type: ignore[arg-type]


def test_tls_is_off_without_a_certificate_and_on_with_an_entry_or_files() -> None:
    assert not TLSSettings().is_on
    assert TLSSettings(certificate="prod/www").is_on
    assert TLSSettings(certificate_file="a.pem", key_file="a.key").is_on  # type: ignore[arg-type]


def test_an_entry_is_split_into_configuration_and_id() -> None:
    assert split_entry("prod/www-1") == ("prod", "www-1")
    assert split_entry("") == ("", "")

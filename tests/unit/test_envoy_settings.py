"""`[[targets]]` of type envoy: what is taken and what is refused before anything is opened."""

from typing import Any

import pytest
from pydantic import ValidationError

from certorbit.target_settings import EnvoyTargetSettings
from certorbit.target_settings.envoy import is_private

LISTENER = {"name": "https", "port": 443, "secrets": ["https-default", "https-1"]}
TLS = {"certificate": "/c", "key": "/k", "client_ca": "/ca"}


def read(**more: Any) -> EnvoyTargetSettings:
    table = {"type": "envoy", "name": "edge", "host": "lb.example.com", "listeners": [LISTENER], **more}
    return EnvoyTargetSettings.model_validate(table)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"listen": "[::1]:18000"},
        {"listen": "localhost:18000"},
        {"listen": "unix:/run/certorbit/sds.sock"},
        {"listen": "0.0.0.0:18000", **TLS},
        {"listen": "[::]:18000", **TLS},
        {"mode": "files", "directory": "/etc/envoy/secrets"},
    ],
)
def test_good_tables_are_taken(more: dict[str, Any]) -> None:
    assert read(**more).listeners[0].secrets == ("https-default", "https-1")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"listen": "0.0.0.0:18000"}, "reached from elsewhere"),
        ({"listen": "sds.example.com:18000"}, "reached from elsewhere"),
        ({"listen": "127.0.0.1"}, "has no port"),
        ({"listen": "::1"}, "has no port"),
        ({"listen": "::1:18000"}, "has no port"),
        ({"listen": ""}, "has no port"),
        ({"listen": "127.0.0.1:99999"}, "not an address"),
        ({"listen": "unix:sds.sock"}, "not a socket"),
        ({"certificate": "/c"}, "belong together"),
        ({"mode": "files"}, "needs a directory"),
        ({"mode": "files", "directory": "secrets"}, "directory"),
        ({"mode": "files", "directory": "/s", **TLS}, "has no server"),
        ({"directory": "/s"}, "mode sds has none"),
        ({"file_mode": "999"}, "file_mode"),
        ({"listeners": []}, "listeners"),
        ({"listeners": [{**LISTENER, "secrets": []}]}, "secrets"),
        ({"listeners": [{**LISTENER, "secrets": ["a", "a"]}]}, "two slots"),
        ({"listeners": [LISTENER, {**LISTENER, "port": 8443}]}, "two slots"),
        ({"listeners": [{**LISTENER, "secrets": ["../a"]}]}, "secrets"),
        ({"host": ""}, "no addresses"),
    ],
)
def test_bad_tables_are_refused_with_the_reason(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        read(**more)


def test_who_can_reach_an_address() -> None:
    assert is_private("127.0.0.9:1")
    assert is_private("[::1]:1")
    assert not is_private("[::]:1")
    assert not is_private("10.0.0.1:1")

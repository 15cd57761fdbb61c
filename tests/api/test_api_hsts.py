"""Strict-Transport-Security: said where the service itself speaks HTTPS, and nowhere else."""

from pathlib import Path

import pytest

from api.server import run_api

HEADER = "strict-transport-security"


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ({}, None),
        ({"certificate": "prod/api"}, "max-age=63072000"),
        ({"certificate": "prod/api", "hsts_seconds": 300}, "max-age=300"),
        ({"certificate": "prod/api", "hsts_seconds": 0}, None),
    ],
    ids=["plain HTTP", "HTTPS", "HTTPS for a while", "switched off"],
)
def test_browsers_are_told_to_stay_with_https_only_where_there_is_https(
    tls: dict[str, object], said: str | None, tmp_path: Path
) -> None:
    with run_api(tmp_path, tls=tls) as api:
        for path in ("/healthz", "/api/v4.0/conf/configs", "/nowhere"):
            assert api.call("GET", path, key=None).headers.get(HEADER) == said

"""Real programs that tests run: found, or the test is skipped with the reason; in CI (CI=true) it fails instead."""

import os
import shutil

import pytest

PACKAGES = {
    "pebble": "Debian package pebble",
    "pebble-challtestsrv": "Debian package pebble",
    "named": "Debian package bind9",
    "haproxy": "Debian package haproxy",
    "nginx": "Debian package nginx-light",
    "openssl": "Debian package openssl",
    "softhsm2-util": "Debian package softhsm2",
}


def require_program(name: str) -> str:
    """Return the path of a program.

    Without it the calling test is skipped; where `CI` is `true`, a missing program is a failure, never a pass.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is not installed ({PACKAGES.get(name, 'see CONTRIBUTING.md')})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)

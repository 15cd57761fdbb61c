"""Fixtures of the contracts about client certificates."""

from pathlib import Path

import pytest

from targets.client_certificates import OURS, THEIRS


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Return the file of a client that may come in."""
    return OURS.issue(tmp_path, "good")


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """Return the file of a client of another CA."""
    return THEIRS.issue(tmp_path, "wrong")

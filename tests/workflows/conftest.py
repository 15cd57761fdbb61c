"""Fixtures of tests about client checks in deployments; other tests here have desks of their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from client_policy_desk import Desk


@pytest.fixture
async def desk(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path, sqlite_template)
    yield made
    for lab in made.opened:
        await lab.store.close()

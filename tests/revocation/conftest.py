"""The scene on a database and a web server of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from revocation_scene import Scene

from hostile_web import run_web


@pytest.fixture
async def scene(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Scene]:
    async with run_web() as web:
        made = Scene(web, tmp_path / "scene.db", sqlite_template)
        await made.open()
        yield made
        await made.store.close()

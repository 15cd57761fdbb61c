"""The API on a real server: one for each module, and a fresh one for tests that look at everything in it."""

from collections.abc import Iterator

import pytest

from api.material import Pair, make_leaf
from api.server import API, run_api


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    with run_api(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def api(shared_api: API) -> Iterator[API]:
    """The module's API, with the workflow and the readiness as they were."""
    yield shared_api
    shared_api.workflow.outcome = "issue"
    shared_api.ready.problem = None


@pytest.fixture
def fresh_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    with run_api(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def leaf(api: API) -> Pair:
    return make_leaf(api.ca, "www.example.test", "api.example.test")

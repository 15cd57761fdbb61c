"""The API on a real server: one for each module, and a fresh one for tests that look at everything in it."""

from collections.abc import Iterator

import pytest

from api.hostile_provider import HostileProvider, run_hostile_provider, settings_of
from api.material import Pair, make_leaf
from api.server import API, run_api
from api.signing_in import Renewable, run_sign_in


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


@pytest.fixture(scope="module")
def running_provider(shared_api: API) -> Iterator[HostileProvider]:
    with run_hostile_provider(shared_api.clock) as running:
        yield running


@pytest.fixture
def provider(running_provider: HostileProvider) -> HostileProvider:
    """The module's provider, sound again, and all failures long ago."""
    running_provider.reset()
    running_provider.clock.advance(minutes=2)
    return running_provider


@pytest.fixture(scope="module")
def lasting(shared_api: API, running_provider: HostileProvider) -> Iterator[API]:
    """An API that goes on through the module, with the metadata and keys that it has read."""
    with run_sign_in(shared_api, **settings_of(running_provider)) as api:
        yield api


@pytest.fixture
def console(lasting: API, provider: HostileProvider) -> API:
    """The same as if it had asked the provider nothing yet."""
    assert isinstance(lasting.parts.identity, Renewable)
    lasting.parts.identity.renew()
    return lasting

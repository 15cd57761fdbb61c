"""Deployments of the whole service, on SQLite and on PostgreSQL.

Starting a service takes seconds, so tests that need nothing special share one deployment per database (`site` with
Pebble, `odd_site` with the fake CA) and use entry ids and names of their own.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from e2e.deployment import Deployment, acme_environment, pebble_environment
from e2e.fake_ca_thread import running_fake_ca
from e2e.pebble import Pebble, start_pebble
from e2e.service import Client, Service
from fakes.fake_ca import FakeCA
from postgres import PostgresServer

NewDeployment = Callable[[dict[str, str]], Deployment]
StartPebble = Callable[..., Pebble]


@dataclass
class Site:
    """A deployment with its CA (Pebble) and one server that also works and answers challenges."""

    pebble: Pebble
    deployment: Deployment
    service: Service

    @property
    def client(self) -> Client:
        return self.service.client


@dataclass
class OddSite:
    """A deployment whose CA does what a test tells it. Everything is logged, so that a secret would show.

    hasty: a second server on the same database, which waits for no issuance.
    """

    ca: FakeCA
    deployment: Deployment
    service: Service
    hasty: Client

    @property
    def client(self) -> Client:
        return self.service.client

    def orders_for(self, name: str) -> list[dict[str, object]]:
        """Return the orders that the CA was asked for with this name among others."""
        return [
            order
            for order in self.ca.orders.values()
            if name in [identifier["value"] for identifier in order["identifiers"]]
        ]


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def make_deployment(
    database_kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewDeployment]:
    """Make deployments, each on an empty database of its own."""
    server: PostgresServer | None = None
    if database_kind == "postgres":
        server = request.getfixturevalue("postgres_server")
    databases: list[str] = []

    def make(environment: dict[str, str]) -> Deployment:
        database = {}
        if server is not None:
            databases.append(server.create_database())
            database = {"CERTORBIT_DATABASE_URL": server.url(databases[-1])}
        return Deployment(tmp_path_factory.mktemp("deployment"), {**environment, **database})

    yield make
    for name in databases:
        assert server is not None
        server.drop_database(name)


@pytest.fixture
def deploy(make_deployment: NewDeployment) -> Iterator[NewDeployment]:
    """Make deployments for one test; afterwards they are stopped and their logs searched for secrets."""
    with ExitStack() as stack:

        def make(environment: dict[str, str]) -> Deployment:
            deployment = make_deployment(environment)
            stack.callback(deployment.close)
            return deployment

        yield make


@pytest.fixture
def new_pebble(tmp_path: Path) -> Iterator[StartPebble]:
    """Start Pebbles with settings of their own for one test."""
    numbers = count()
    with ExitStack() as stack:

        def start(**settings: object) -> Pebble:
            pebble = start_pebble(tmp_path / f"pebble{next(numbers)}", **settings)  # type: ignore[arg-type]
            stack.callback(pebble.stop)
            return pebble

        yield start


@pytest.fixture(scope="session")
def site(make_deployment: NewDeployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The shared deployment with Pebble, which rejects one nonce in five."""
    pebble = start_pebble(tmp_path_factory.mktemp("pebble"), nonce_reject=20)
    with ExitStack() as stack:
        stack.callback(pebble.stop)
        deployment = make_deployment(pebble_environment(pebble))
        stack.callback(deployment.close)
        yield Site(pebble, deployment, deployment.serve(http01_port=pebble.http01_port))


@pytest.fixture(scope="session")
def shared_odd_site(make_deployment: NewDeployment) -> Iterator[OddSite]:
    with running_fake_ca() as ca, ExitStack() as stack:
        deployment = make_deployment({**acme_environment(ca.directory_url), "CERTORBIT_LOG_LEVEL": "debug"})
        stack.callback(deployment.close)
        service = deployment.serve()
        hasty = deployment.serve("--no-worker", more={"CERTORBIT_ISSUANCE__WAIT": "0"})
        yield OddSite(ca, deployment, service, hasty.client)


@pytest.fixture
def odd_site(shared_odd_site: OddSite) -> Iterator[OddSite]:
    """The shared deployment with the fake CA.

    After each test the CA is back to its senses, and what still waits is deleted: its next attempt would come in the
    middle of another test.
    """
    yield shared_odd_site
    shared_odd_site.ca.polls_before_decision = 0
    shared_odd_site.ca.judge = lambda _: None
    for item in shared_odd_site.client.certificates():
        if not item["cert_body"]:
            assert shared_odd_site.client.delete(item["id"]).status == 200

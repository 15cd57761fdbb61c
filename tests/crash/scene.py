"""A deployment to be shaken: Pebble, a database, our processes on it, clients."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from certorbit.keys.keyring import LocalKeyring
from certorbit.keys.sources import load_keys
from certorbit.ports.keyring import Keyring
from certorbit.settings import Settings
from certorbit.storage import tables
from certorbit.workflows.executors import Tables
from crash.clients import Clients
from crash.evidence import Evidence, collect_evidence
from crash.nodes import PATIENCE, Node, all_lines
from e2e.pebble import MOST_REQUESTS_IN_FLIGHT, Pebble, start_pebble
from e2e.service import wait_until

HEARTBEAT_SECONDS = 0.5
TTL_SECONDS = 2.0


@dataclass
class Scene:
    """Nodes share a data directory (the keyring, and SQLite's file) and a database.

    database_url: "" for SQLite in the data directory.
    """

    data_dir: Path
    pebble: Pebble
    database_url: str
    nodes: list[Node] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)
    _news: threading.Condition = field(default_factory=threading.Condition, repr=False)  # of all nodes

    def add_node(self, *command: str, wait: float = 0.0, answers_challenges: bool = False) -> Node:
        """Make a node; it isn't started. wait: how long its POSTs wait for the issuance."""
        environment = {
            "CERTORBIT_ACME_DIRECTORY": self.pebble.directory_url,
            "CERTORBIT_ACME_CA_BUNDLE": str(self.pebble.ca_bundle),
            "CERTORBIT_ACME_MAX_IN_FLIGHT": str(MOST_REQUESTS_IN_FLIGHT),
            "CERTORBIT_ISSUANCE__WAIT": str(wait),
            "CERTORBIT_WORKER__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "CERTORBIT_WORKER__TTL_SECONDS": str(TTL_SECONDS),
        }
        if self.database_url:
            environment["CERTORBIT_DATABASE_URL"] = self.database_url
        if answers_challenges:
            environment["CERTORBIT_HTTP01_LISTEN"] = f"127.0.0.1:{self.pebble.http01_port}"
        name = f"{command[0]}-{len(self.nodes)}"
        node = Node(self.data_dir, environment, command, name=name, _news=self._news)
        self.nodes.append(node)
        self._stack.callback(node.end)
        return node

    def clients(self, node: Node) -> Clients:
        """Return clients of the node's API, which end with the scene."""
        return self._stack.enter_context(Clients(node.client))

    @property
    def database(self) -> sa.Engine:
        """A connection of our own, for looking."""
        url = self.database_url or f"sqlite:///{self.data_dir / 'certorbit.db'}"
        return sa.create_engine(url, poolclass=sa.NullPool)

    def keyring(self) -> Keyring:
        return LocalKeyring(load_keys(Settings(data_dir=self.data_dir)))

    def count_operations(self, entry_id: str) -> int:
        """Return how many operations the database has for an entry."""
        query = sa.select(sa.func.count()).where(tables.operations.c.entry_id == entry_id)
        with self.database.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def wait_until_settled(self) -> None:
        """Return when no operation and no workflow is under way any more."""
        try:
            wait_until(lambda: is_settled(self.database), seconds=PATIENCE, what="all operations and workflows end")
        except AssertionError as error:
            raise AssertionError(f"{error}; still open: {list_open(self.database)}") from None

    def end(self) -> Evidence:
        """Stop all nodes and return what they left."""
        for node in self.nodes:
            node.end()
        return collect_evidence(self.database, log=all_lines(self.nodes), pebble=self.pebble)


def list_open(database: sa.Engine) -> list[dict[str, Any]]:
    """Return the operations that are not at their end."""
    columns = ("entry_id", "state", "attempt", "updated_at", "next_attempt_at", "problem")
    query = sa.select(*(tables.operations.c[name] for name in columns)).where(tables.operations.c.finished_at.is_(None))
    with database.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def is_settled(database: sa.Engine) -> bool:
    """Return whether no operation and no workflow is under way any more."""
    operations = sa.select(sa.func.count()).where(tables.operations.c.finished_at.is_(None))
    status = Tables(None if database.dialect.name == "sqlite" else "dbos").status
    workflows = sa.select(sa.func.count()).where(status.c.status.in_(["PENDING", "ENQUEUED", "DELAYED"]))
    with database.connect() as connection:
        return not any(connection.execute(query).scalar_one() for query in (operations, workflows))


@contextmanager
def scene(directory: Path, *, database_url: str = "", pebble_settings: dict[str, str] | None = None) -> Iterator[Scene]:
    """Give a scene with a Pebble of its own, and end all its processes."""
    data_dir = directory / "data"
    data_dir.mkdir(parents=True)
    with ExitStack() as stack:
        pebble = start_pebble(
            directory / "pebble", sleep=pebble_settings is not None, environment=pebble_settings, orders_per_page=100
        )
        stack.callback(pebble.stop)
        stack.callback(partial(shutil.rmtree, data_dir, ignore_errors=True))
        made = Scene(data_dir, pebble, database_url)
        stack.enter_context(made._stack)
        yield made

"""A deployment of certificates to be shaken: one HAProxy with listeners, our processes, and clients that never stop.

The certificates are the built-in CA's, so that a renewal takes milliseconds and the kills meet the roll-out.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from time import monotonic

import sqlalchemy as sa

from crash.nodes import PATIENCE, Moment, Node
from crash.scene import HEARTBEAT_SECONDS, TTL_SECONDS, is_settled, list_open
from e2e.balancer_client import BalancerClient
from e2e.edge import Edge, running_edge, shake_hands
from e2e.service import Answer, wait_until
from e2e.targets_toml import write_settings
from targets.haproxy_process import settings_for

LISTENERS = 6
PAUSE = 0.01  # seconds between two handshakes of one client


@dataclass
class DeploymentScene:
    """Nodes that share a data directory, a database and a HAProxy. database_url: "" for SQLite."""

    data_dir: Path
    settings: Path
    database_url: str
    edge: Edge
    nodes: list[Node] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)
    _news: threading.Condition = field(default_factory=threading.Condition, repr=False)

    @property
    def listeners(self) -> list[str]:
        return [listener.name for listener in self.edge.haproxy.listeners]

    def add_node(self, *command: str) -> Node:
        """Make a node; it isn't started."""
        environment = {
            "CERTORBIT_SETTINGS": str(self.settings),
            "CERTORBIT_WORKER__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "CERTORBIT_WORKER__TTL_SECONDS": str(TTL_SECONDS),
        }
        if self.database_url:
            environment["CERTORBIT_DATABASE_URL"] = self.database_url
        name = f"{command[0]}-{len(self.nodes)}"
        node = Node(self.data_dir, environment, command, name=name, _news=self._news)
        self.nodes.append(node)
        self._stack.callback(node.end)
        return node

    def handshakes(self, name: str) -> "Handshakes":
        """Return clients that shake hands with all listeners until the scene ends."""
        return self._stack.enter_context(running_handshakes(self.edge, self.listeners, name))

    def wait_until_settled(self) -> None:
        """Return when no operation and no workflow is under way any more."""
        url = self.database_url or f"sqlite:///{self.data_dir / 'certorbit.db'}"
        database = sa.create_engine(url, poolclass=sa.NullPool)
        try:
            wait_until(lambda: is_settled(database), seconds=PATIENCE, what="all operations and workflows end")
        except AssertionError as error:
            raise AssertionError(f"{error}; still open: {list_open(database)}") from None

    def kill_after(self, node: Node, delay: float) -> None:
        """kill -9 so many seconds from now."""
        if delay:
            threading.Event().wait(delay)
        node.kill()

    def wait_for_any(self, nodes: Sequence[Node], moment: Moment, *, since: Mapping[str, int]) -> Node:
        """Return the node that is the first to write the moment's line. since: lines that don't count, by node."""

        def find() -> Node | None:
            for node in nodes:
                lines = node.lines[since[node.name] :]
                if sum(line.get("event") == moment.event for line in lines) >= moment.occurrence:
                    return node
            return None

        with self._news:
            self._news.wait_for(find, timeout=PATIENCE)
            found = find()
        assert found, f"nobody wrote {moment}: {[''.join(node.text[-10:]) for node in nodes]}"
        return found


@contextmanager
def deployment_scene(directory: Path, *, database_url: str = "") -> Iterator[DeploymentScene]:
    data_dir = directory / "data"
    data_dir.mkdir(parents=True)
    with running_edge(directory / "edge", listeners=LISTENERS) as edge, ExitStack() as stack:
        settings = write_settings(directory / "certorbit.toml", [settings_for(edge.haproxy)])
        made = DeploymentScene(data_dir, settings, database_url, edge)
        stack.enter_context(made._stack)
        yield made


@dataclass
class Handshakes:
    """What clients see, until `stop`. leaves: each listener's, one after the other, a repeat not written down."""

    stop: Callable[[], None]
    count: int = 0
    failures: list[str] = field(default_factory=list)
    leaves: dict[str, list[str]] = field(default_factory=dict)

    def take(self, listener: str, port: int, name: str) -> None:
        try:
            leaf = shake_hands(port, name)
        except OSError as error:
            self.failures.append(f"{listener}: {error}")
            return
        self.count += 1
        seen = self.leaves.setdefault(listener, [])
        if not seen or seen[-1] != leaf:
            seen.append(leaf)


@contextmanager
def running_handshakes(edge: Edge, listeners: Sequence[str], name: str) -> Iterator[Handshakes]:
    """Shake hands with one listener after the other in a thread."""
    ends = threading.Event()

    def run() -> None:
        while not ends.is_set():
            for listener in listeners:
                made.take(listener, edge.port(listener), name)
                ends.wait(PAUSE)

    def stop() -> None:
        ends.set()
        thread.join(timeout=60)

    made = Handshakes(stop)
    thread = threading.Thread(target=run, name="handshakes")
    thread.start()
    try:
        yield made
    finally:
        stop()


def insist(api: BalancerClient, method: str, path: str) -> Answer:
    """Send a request until somebody answers, as clients do."""
    deadline = monotonic() + PATIENCE
    waiter = threading.Event()
    while monotonic() < deadline:
        try:
            answer = api.client.request(method, path)
        except (OSError, HTTPException):  # refused, cut off
            pass
        else:
            if answer.status != 503:
                return answer
        waiter.wait(0.02)
    raise AssertionError(f"nobody answered {method} {path}")

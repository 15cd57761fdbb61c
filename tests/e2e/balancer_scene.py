"""One service on SQLite with a real HAProxy, for tests that break something at the edge."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from certorbit.target_settings.haproxy import HAProxyListenerTable
from e2e.balancer_client import BalancerClient
from e2e.deployment import Deployment
from e2e.edge import Crossing, Edge, crossing, running_edge
from e2e.service import Client, Service, wait_until
from e2e.targets_toml import write_settings
from targets.haproxy_process import ADDRESS, settings_for

GRACE_SECONDS = 1.5  # of the target: what isn't served after this time goes back


@dataclass(frozen=True)
class BalancerScene:
    """crossings: what the probe addresses of some listeners lead to, by listener."""

    service: Service
    api: BalancerClient
    edge: Edge
    crossings: Mapping[str, Crossing]

    @property
    def client(self) -> Client:
        return self.service.client

    def fingerprint(self, entry_id: str) -> str:
        """Return the leaf of the newest version."""
        return next(iter(self.api.fingerprints(entry_id).values()))

    def generate(self, entry_id: str) -> str:
        """Make a certificate for `<id>.example.com`, and return its leaf's fingerprint."""
        answer = self.client.generate(entry_id, name_of(entry_id))
        assert answer.status == 201, answer.body
        self.client.wait_issued(entry_id)
        return self.fingerprint(entry_id)

    def attach(self, entry_id: str, *listeners: str, default: bool = False) -> None:
        for listener in listeners:
            answer = self.api.attach(self.api.listener(listener), entry_id, default=default)
            assert (answer.status, answer.body) == (200, b"")

    def renew(self, entry_id: str) -> str:
        """Let it be renewed, and return the new leaf's fingerprint; its deployment goes on by itself."""
        before = self.api.fingerprints(entry_id)
        answer = self.api.renew(entry_id)
        assert answer.status == 202, answer.body
        wait_until(lambda: len(self.api.fingerprints(entry_id)) > len(before), what=f"{entry_id} is renewed")
        return self.fingerprint(entry_id)

    def served(self, listener: str, entry_id: str) -> str:
        return self.edge.served(listener, name_of(entry_id))


def no_more(_edge: Edge) -> Sequence[BaseModel]:
    return ()


@contextmanager
def balancer_scene(
    folder: Path,
    *,
    listeners: int,
    crossed: Sequence[str] = (),
    deployment: Mapping[str, object] | None = None,
    more_targets: Callable[[Edge], Sequence[BaseModel]] = no_more,
    environment: Mapping[str, str] | None = None,
    http01_port: int = 0,
) -> Iterator[BalancerScene]:
    """Start everything and stop it again.

    crossed: listeners whose probe address is a crossing that leads to them at first. more_targets: others beside HAProxy.
    deployment: the settings' table.
    """
    with running_edge(folder / "edge", listeners=listeners) as edge, ExitStack() as stack:
        crossings = {name: stack.enter_context(crossing(edge.port(name))) for name in crossed}
        tables = tuple(
            HAProxyListenerTable(
                name=one.name,
                port=one.port,
                addresses=(f"{ADDRESS}:{crossings[one.name].port if one.name in crossings else one.port}",),
                crt_list=one.crt_list,
            )
            for one in edge.haproxy.listeners
        )
        haproxy = settings_for(edge.haproxy, listeners=tables, grace_seconds=GRACE_SECONDS)
        settings = write_settings(
            folder / "certorbit.toml", [haproxy, *more_targets(edge)], deployment={"tries": 1, **(deployment or {})}
        )
        (folder / "data").mkdir()
        processes = Deployment(folder / "data", {"CERTORBIT_SETTINGS": str(settings), **(environment or {})})
        stack.callback(processes.close)
        service = processes.serve(http01_port=http01_port)
        api = BalancerClient(service.client)
        api.wait_listed(tables[-1].name)
        yield BalancerScene(service, api, edge, crossings)


def name_of(entry_id: str) -> str:
    return f"{entry_id}.example.com"

"""Kubernetes for the contract suite: the target against the stand-in."""

import base64
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.model.balancer import ListenerKey
from certorbit.ports.target import Target
from certorbit.target_settings import KubernetesTargetSettings
from certorbit.targets.kubernetes import make
from certorbit.targets.registry import TargetParts
from fakes.clock import FakeChance, FakeClock
from fakes.memory_shelf import MemoryShelf
from targets.kubernetes_stand_in import ClusterStandIn
from targets.target_bench import TargetBench

LISTENERS = (
    {"name": "edge", "addresses": ["192.0.2.30", "[2001:db8::30]:8443"], "namespace": "shop", "secret": "edge-tls"},
    {"name": "api", "addresses": ["192.0.2.31"], "namespace": "shop", "secret": "api-tls"},
)
EDGE = ListenerKey(target="cluster", region="", load_balancer="cluster", listener="edge", port=443)
API = ListenerKey(target="cluster", region="", load_balancer="cluster", listener="api", port=443)


class NoQuota:
    """A ledger that nobody may ask."""

    async def spend(self, account: str, kind: str, *, limit: int, days: int) -> None:
        raise AssertionError(account)


def make_cluster_target(*, clock: FakeClock | None = None, **settings: Any) -> Target:
    """Return a target for these settings; waits don't wait."""
    table = KubernetesTargetSettings(
        **{"type": "kubernetes", "name": "cluster", "listeners": LISTENERS, "timeout_seconds": 20, **settings}
    )
    parts = TargetParts(
        clock=clock or FakeClock(auto_advance=True), chance=FakeChance(), quota=NoQuota(), shelf=MemoryShelf()
    )
    return make(table, parts)


def reach(stand_in: ClusterStandIn, folder: Path) -> dict[str, Any]:
    """Return the settings that lead to the stand-in."""
    return {"server": stand_in.url, "token_file": folder / "token", "ca_file": folder / "ca.crt"}


def shown_by(stand_in: ClusterStandIn, secret: str, *, namespace: str = "shop") -> str:
    """Return the fingerprint of the leaf in a Secret: what an Ingress controller serves of it; "" if there is none."""
    data = stand_in.secrets.get((namespace, secret), {}).get("data", {})
    if "tls.crt" not in data:
        return ""
    leaf = x509.load_pem_x509_certificates(base64.b64decode(data["tls.crt"]))[0]
    return sha256(leaf.public_bytes(Encoding.DER)).hexdigest()


async def open_bench(folder: Path, stack: AsyncExitStack) -> TargetBench:
    stand_in = await stack.enter_async_context(ClusterStandIn(folder))

    async def served(listener: ListenerKey, _: str) -> str:
        return shown_by(stand_in, f"{listener.listener}-tls")

    return TargetBench(
        target=make_cluster_target(**reach(stand_in, folder)),
        listener=EDGE,
        other=API,
        served=served,
        has_sni=False,
        is_in_place=False,
    )

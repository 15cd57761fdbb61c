"""Google Cloud for the contract suite: the targets against the stand-in."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from certorbit.model.balancer import ListenerKey
from certorbit.ports.target import Target
from certorbit.target_settings import GCPTargetSettings
from certorbit.targets.gcp import make
from certorbit.targets.registry import TargetParts
from fakes.clock import FakeChance, FakeClock
from fakes.memory_shelf import MemoryShelf
from targets.gcp_stand_in import TOKEN, GoogleStandIn
from targets.gcp_state import GLOBAL, LOCATION
from targets.target_bench import TargetBench, make_bundle


def make_google_target(stand_in: GoogleStandIn, *, clock: FakeClock | None = None, **settings: Any) -> Target:
    """Return a target that asks the stand-in; waits don't wait."""
    table = GCPTargetSettings(
        **{
            "type": "gcp",
            "name": "cloud",
            "project": "example-project",
            "endpoint_url": stand_in.url,
            "token": SecretStr(TOKEN),
            "timeout_seconds": 20,
            **settings,
        }
    )
    return make(table, google_parts(clock or FakeClock(auto_advance=True)))


def google_parts(clock: FakeClock) -> TargetParts:
    """Return parts of which this target uses the clock and the chance."""
    return TargetParts(clock=clock, chance=FakeChance(), quota=NoQuota(), shelf=MemoryShelf())


class NoQuota:
    """A ledger that nobody may ask: Google counts by itself."""

    async def spend(self, account: str, kind: str, *, limit: int, days: int) -> None:
        raise AssertionError(account)


def listener_key(name: str, *, port: int = 443, region: str = "global") -> ListenerKey:
    return ListenerKey(target="cloud", region=region, load_balancer=name, listener=name, port=port)


async def open_google(stack: AsyncExitStack) -> GoogleStandIn:
    """Return a stand-in with two HTTPS proxies, an SSL proxy and two maps; each holds a certificate of somebody else."""
    stand_in = await stack.enter_async_context(GoogleStandIn())
    state = stand_in.state
    foreign = make_bundle("foreign").chain_pem
    link = state.add_certificate("foreign", foreign)
    state.add_proxy("web", [link], address="192.0.2.10")
    state.add_rule("web-v6", target=f"{GLOBAL}/targetHttpsProxies/web", address="2001:db8::10", port=443)
    state.add_proxy("shop", [link], address="192.0.2.11")
    state.add_proxy("mail", [link], address="192.0.2.12", kind="targetSslProxies", port=993)
    state.add_proxy("unreached", [link], address="")
    state.add_proxy("mapped", [link], address="192.0.2.13", certificateMap=f"//x/{LOCATION}/certificateMaps/web")
    managed = state.add_managed("foreign", foreign)
    for name, address in (("web", "192.0.2.20"), ("shop", "192.0.2.21")):
        path = state.add_map(name, addresses=[address])
        state.add_entry(path, "somebodys", [managed])
    return stand_in


async def open_classic(_: Path, stack: AsyncExitStack) -> TargetBench:
    stand_in = await open_google(stack)

    async def served(listener: ListenerKey, server_name: str) -> str:
        return stand_in.state.served_by_proxy(f"{GLOBAL}/targetHttpsProxies/{listener.load_balancer}", server_name)

    return TargetBench(
        target=make_google_target(stand_in),
        listener=listener_key("web"),
        other=listener_key("shop"),
        served=served,
        is_in_place=False,
    )


async def open_manager(_: Path, stack: AsyncExitStack) -> TargetBench:
    stand_in = await open_google(stack)

    async def served(listener: ListenerKey, server_name: str) -> str:
        return stand_in.state.served_by_map(f"{LOCATION}/certificateMaps/{listener.load_balancer}", server_name)

    return TargetBench(
        target=make_google_target(stand_in, mode="manager"),
        listener=listener_key("web"),
        other=listener_key("shop"),
        served=served,
    )

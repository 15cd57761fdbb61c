"""HAProxy for the contract suite: a real one with two listeners."""

from contextlib import AsyncExitStack
from pathlib import Path

from certorbit.clock import SystemChance, SystemClock
from certorbit.model.balancer import ListenerKey
from certorbit.target_settings.haproxy import HAProxyTargetSettings
from certorbit.targets.haproxy.target import HAProxyTarget
from targets.haproxy_process import settings_for, shake_hands, start_haproxy
from targets.target_bench import TargetBench


def make_target(settings: HAProxyTargetSettings) -> HAProxyTarget:
    return HAProxyTarget(settings, clock=SystemClock(), chance=SystemChance())


def keys_of(settings: HAProxyTargetSettings) -> list[ListenerKey]:
    """Return the listeners' keys, in the order of the settings."""
    return [
        ListenerKey(target=settings.name, region="", load_balancer=settings.name, listener=table.name, port=table.port)
        for table in settings.listeners
    ]


async def served(listener: ListenerKey, name: str) -> str:
    return await shake_hands(listener.port, name)


async def open_bench(folder: Path, stack: AsyncExitStack) -> TargetBench:
    haproxy = await stack.enter_async_context(start_haproxy(folder))
    settings = settings_for(haproxy)
    first, second = keys_of(settings)
    return TargetBench(target=make_target(settings), listener=first, other=second, served=served)

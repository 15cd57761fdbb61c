"""The real Envoy for the contract suite: with our SDS server, and with files that it watches."""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from certorbit.clock import SystemChance, SystemClock
from certorbit.errors import BadInput
from certorbit.model.balancer import ListenerKey
from certorbit.target_settings import EnvoyTargetSettings
from certorbit.targets.envoy import make
from certorbit.targets.envoy.target import EnvoyTarget
from certorbit.targets.registry import TargetParts
from e2e.service import free_port
from fakes.memory_shelf import MemoryShelf
from targets.envoy_process import EnvoyProcess, file_source, make_cluster, make_listener, sds_source
from targets.target_bench import TargetBench

HTTPS = ListenerKey("edge", "", "edge", "https", 443)
MAIL = ListenerKey("edge", "", "edge", "mail", 465)
SECRETS = {"https": ("https-default", "https-1", "https-2", "https-3"), "mail": ("mail-default", "mail-1")}


class NoQuota:
    """Envoy has none."""

    async def spend(self, account: str, kind: str, *, limit: int, days: int) -> None:
        raise AssertionError("nothing is counted here")


def make_settings(**more: Any) -> EnvoyTargetSettings:
    ports = {"https": 443, "mail": 465}
    listeners = [{"name": name, "port": ports[name], "secrets": names} for name, names in SECRETS.items()]
    return EnvoyTargetSettings.model_validate(
        {"type": "envoy", "name": "edge", "host": "127.0.0.1", "listeners": listeners, **more}
    )


def make_target(settings: EnvoyTargetSettings, shelf: MemoryShelf | None = None) -> EnvoyTarget:
    parts = TargetParts(clock=SystemClock(), chance=SystemChance(), quota=NoQuota(), shelf=shelf or MemoryShelf())
    target = make(settings, parts)
    assert isinstance(target, EnvoyTarget)
    return target


async def start_sds(stack: AsyncExitStack, *, shelf: MemoryShelf | None = None, **more: Any) -> tuple[EnvoyTarget, str]:
    """Return a started target and the address of its server."""
    given = more.pop("listen", "")
    for _ in range(5):
        listen = given or f"127.0.0.1:{free_port()}"
        target = make_target(make_settings(listen=listen, **more), shelf)
        stack.push_async_callback(target.close)
        try:
            await target.start()
        except BadInput as error:
            if given or "can't listen" not in error.message:
                raise
        else:
            return target, listen
    raise AssertionError("no port is free")


async def start_envoy(
    stack: AsyncExitStack, folder: Path, address: str, *, is_delta: bool = False, **more: Any
) -> EnvoyProcess:
    """Return an Envoy whose secrets come from the SDS server at this address."""
    source, tls = sds_source(is_delta=is_delta), more.pop("tls", None)
    listeners = [make_listener(name, dict.fromkeys(names, source)) for name, names in SECRETS.items()]
    envoy = EnvoyProcess(folder, listeners, [make_cluster(address, tls)], **more)
    stack.push_async_callback(envoy.stop)
    await envoy.start()
    return envoy


async def open_sds(folder: Path, stack: AsyncExitStack) -> TargetBench:
    target, address = await start_sds(stack)
    envoy = await start_envoy(stack, folder, address)
    for name in SECRETS:
        await envoy.wait_for_listener(name)

    async def served(key: ListenerKey, server_name: str) -> str:
        return await envoy.served(key.listener, server_name)

    return TargetBench(target=target, listener=HTTPS, other=MAIL, served=served)


async def open_files(folder: Path, stack: AsyncExitStack) -> TargetBench:
    return (await start_with_files(folder, stack))[0]


async def start_with_files(folder: Path, stack: AsyncExitStack) -> tuple[TargetBench, EnvoyProcess]:
    directory = folder / "secrets"
    directory.mkdir()
    target = make_target(make_settings(mode="files", directory=str(directory)))
    await target.start()
    listeners = [
        make_listener(name, {secret: file_source(directory, secret) for secret in names})
        for name, names in SECRETS.items()
    ]
    envoy = EnvoyProcess(folder / "envoy", listeners)
    stack.push_async_callback(envoy.stop)
    await envoy.start()

    async def served(key: ListenerKey, server_name: str) -> str:
        # Envoy reads the files some time after they were moved into their place, and tells nobody: wait until it has.
        written = {
            secret: json.loads((directory / f"{secret}.json").read_text())["version_info"]
            for secret in SECRETS[key.listener]
        }
        await envoy.wait_for_secrets(written)
        return await envoy.served(key.listener, server_name)

    return TargetBench(target=target, listener=HTTPS, other=MAIL, served=served), envoy

"""The real Envoy with listeners that check client certificates, by our SDS server and by files that it watches."""

import json
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certorbit.model.balancer import ListenerKey
from certorbit.target_settings import EnvoyTargetSettings
from certorbit.targets.envoy.target import EnvoyTarget
from fakes.memory_shelf import MemoryShelf
from targets.client_certificates import gets_in
from targets.envoy_bench import HTTPS, MAIL, SECRETS, make_settings, make_target, start_sds
from targets.envoy_process import ClientCheck, EnvoyProcess, file_source, make_cluster, make_listener, sds_source
from targets.listener_client_bench import ListenerClientBench

CLIENTS = {"https": "https-clients", "mail": "mail-clients"}
POLL_SECONDS = 0.1


def make_client_settings(*, is_required: bool = True, **more: Any) -> EnvoyTargetSettings:
    return make_settings(listeners=_make_tables(is_required=is_required), **more)


def _make_tables(*, is_required: bool) -> list[dict[str, Any]]:
    return [
        {
            "name": key.listener,
            "port": key.port,
            "secrets": SECRETS[key.listener],
            "clients_secret": CLIENTS[key.listener],
            "require_client_certificate": is_required,
        }
        for key in (HTTPS, MAIL)
    ]


async def start_client_sds(
    stack: AsyncExitStack, *, is_required: bool = True, shelf: MemoryShelf | None = None, **more: Any
) -> tuple[EnvoyTarget, str]:
    """Return a started target and the address of its server."""
    tables = _make_tables(is_required=is_required)
    return await start_sds(stack, shelf=shelf, **{"listeners": tables, "poll_seconds": POLL_SECONDS, **more})


async def start_checking_envoy(
    stack: AsyncExitStack,
    folder: Path,
    address: str,
    *,
    is_required: bool = True,
    is_delta: bool = False,
    tls: Mapping[str, Any] | None = None,
) -> EnvoyProcess:
    """Return an Envoy whose secrets come from the SDS server. tls: more of the listeners' DownstreamTlsContext."""
    source = sds_source(is_delta=is_delta)
    listeners = [
        make_listener(
            name,
            dict.fromkeys(names, source),
            check=ClientCheck(CLIENTS[name], source, is_required=is_required, more=tls or {}),
        )
        for name, names in SECRETS.items()
    ]
    envoy = EnvoyProcess(folder, listeners, [make_cluster(address, None)])
    stack.push_async_callback(envoy.stop)
    await envoy.start()
    return envoy


@dataclass(frozen=True)
class Door:
    """One Envoy's listeners, as clients find them. directory: in mode files, whose state it has to have read."""

    envoy: EnvoyProcess
    directory: Path | None = None

    async def lets_in(self, key: ListenerKey, name: str, client: Path | None) -> bool:
        """Return whether a request is answered; in TLS 1.2 and 1.3 alike."""
        port = await self.envoy.wait_for_listener(key.listener)
        if self.directory is not None:
            # Envoy reads the files some time after they were moved into their place, and tells nobody.
            written = {
                path.stem: json.loads(path.read_text())["version_info"] for path in self.directory.glob("*.json")
            }
            await self.envoy.wait_for_secrets(written)
        seen = {
            await gets_in(port, name, client, newest=version)
            for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
        }
        assert len(seen) == 1
        return seen.pop()


async def open_envoy_clients(folder: Path, stack: AsyncExitStack) -> ListenerClientBench:
    target, address = await start_client_sds(stack)
    door = Door(await start_checking_envoy(stack, folder / "envoy", address))
    for name in SECRETS:
        await door.envoy.wait_for_listener(name)
    return ListenerClientBench(target, HTTPS, MAIL, door.lets_in, has_optional=False, can_be_without=False)


async def open_envoy_files_clients(folder: Path, stack: AsyncExitStack) -> ListenerClientBench:
    target, door = await start_with_client_files(folder, stack)
    return ListenerClientBench(target, HTTPS, MAIL, door.lets_in, has_optional=False, can_be_without=False)


async def start_with_client_files(
    folder: Path, stack: AsyncExitStack, *, is_required: bool = True
) -> tuple[EnvoyTarget, Door]:
    directory = folder / "secrets"
    directory.mkdir()
    target = make_target(make_client_settings(is_required=is_required, mode="files", directory=str(directory)))
    await target.start()
    listeners = [
        make_listener(
            name,
            {secret: file_source(directory, secret) for secret in names},
            check=ClientCheck(CLIENTS[name], file_source(directory, CLIENTS[name]), is_required=is_required),
        )
        for name, names in SECRETS.items()
    ]
    envoy = EnvoyProcess(folder / "envoy", listeners)
    stack.push_async_callback(envoy.stop)
    await envoy.start()
    return target, Door(envoy, directory)

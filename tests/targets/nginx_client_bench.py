"""nginx for the contract of listeners that check their clients: the real one, two `server` blocks per listener."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from certorbit.model.balancer import ListenerKey
from targets.client_certificates import gets_in
from targets.file_parts import key_of
from targets.listener_client_bench import ListenerClientBench, ListenerVerifyingAdapter
from targets.nginx_process import RealNginx


async def open_nginx_listener_clients(folder: Path, stack: AsyncExitStack) -> ListenerClientBench:
    nginx = RealNginx(stack, checks_clients=True)
    target = cast("ListenerVerifyingAdapter", await nginx.start(stack))

    async def lets_in(key: ListenerKey, name: str, client: Path | None) -> bool:
        return await gets_in(key.port, name, client)

    listener, other = (key_of("web", f"https{number}", port) for number, port in enumerate(nginx.ports))
    return ListenerClientBench(target, listener, other, lets_in)

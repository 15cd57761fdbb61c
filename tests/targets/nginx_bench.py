"""nginx for the contract suite: the real one."""

from contextlib import AsyncExitStack
from pathlib import Path

from certorbit.model.balancer import ListenerKey
from targets.file_parts import key_of, served_at
from targets.nginx_process import RealNginx
from targets.target_bench import TargetBench


async def open_bench(folder: Path, stack: AsyncExitStack) -> TargetBench:
    return await _open(stack, sni=True)


async def open_single(folder: Path, stack: AsyncExitStack) -> TargetBench:
    """Listeners with one certificate each, in the `server` block."""
    return await _open(stack, sni=False)


async def _open(stack: AsyncExitStack, *, sni: bool) -> TargetBench:
    nginx = RealNginx(stack, sni=sni)
    target = await nginx.start(stack)

    async def served(listener: ListenerKey, name: str) -> str:
        return await served_at(listener.port, name)

    listener, other = (key_of("web", f"https{number}", port) for number, port in enumerate(nginx.ports))
    return TargetBench(target=target, listener=listener, other=other, served=served, has_sni=sni)

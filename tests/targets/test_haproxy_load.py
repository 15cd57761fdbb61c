"""Fifty swaps of versions under a constant load of connections: no handshake fails, no connection is dropped."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from targets.haproxy_process import ADDRESS, anyone, shake_hands
from targets.haproxy_scene import open_scene
from targets.target_bench import make_bundle

SWAPS = 50
CLIENTS = 2  # for each listener


@dataclass
class Load:
    """Clients that shake hands again and again until they are told to stop. seen: how often which leaf; "": failed."""

    port: int
    name: str
    seen: Counter[str] = field(default_factory=Counter)
    is_over: bool = False

    async def run(self) -> None:
        while not self.is_over:
            self.seen[await shake_hands(self.port, self.name)] += 1


class KeptConnection:
    """A connection that is kept open, and asks again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "KeptConnection":
        return cls(*await asyncio.open_connection(ADDRESS, port, ssl=anyone(), server_hostname="www.example.com"))

    async def ask(self) -> str:
        self._writer.write(b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n")
        answer = await self._reader.readuntil(b"\r\n\r\nok")
        return answer.split(b"\r\n", 1)[0].decode()

    def close(self) -> None:
        self._writer.transport.abort()


async def test_fifty_swaps_fail_no_handshake_and_drop_no_connection(tmp_path: Path) -> None:
    old, new = make_bundle("www"), make_bundle("www", 2)
    async with open_scene(tmp_path) as scene:
        copy = await scene.put_on(old)
        await scene.target.set_default(scene.second, await scene.install(old, at=scene.second))
        by_name, by_default = Load(scene.first.port, "www.example.com"), Load(scene.second.port, "")
        kept = await KeptConnection.open(scene.first.port)
        clients = [asyncio.create_task(load.run()) for load in (by_name, by_default) for _ in range(CLIENTS)]
        for swap in range(SWAPS):
            wanted = new if swap % 2 == 0 else old
            before = by_name.seen.total() + by_default.seen.total()
            await scene.install(wanted, at=scene.second)
            assert await scene.install(wanted) == copy
            await scene.target.attach(scene.first, copy, instead_of=copy.handle)
            assert await scene.served("www.example.com") == wanted.facts.fingerprint
            assert await shake_hands(scene.second.port) == wanted.facts.fingerprint
            assert await kept.ask() == "HTTP/1.1 200 OK"
            while by_name.seen.total() + by_default.seen.total() < before + CLIENTS:
                await asyncio.sleep(0)
        by_name.is_over = by_default.is_over = True
        await asyncio.gather(*clients)
        kept.close()
    leaves = {old.facts.fingerprint, new.facts.fingerprint}
    assert set(by_name.seen) == set(by_default.seen) == leaves
    assert by_name.seen.total() + by_default.seen.total() >= SWAPS * CLIENTS


async def test_going_on_and_off_the_list_disturbs_nobody_else(tmp_path: Path) -> None:
    www, shop = make_bundle("www"), make_bundle("shop", 3)
    async with open_scene(tmp_path) as scene:
        await scene.put_on(www)
        copy = await scene.install(shop)
        load = Load(scene.first.port, "www.example.com")
        clients = [asyncio.create_task(load.run()) for _ in range(CLIENTS)]
        for _ in range(SWAPS // 2):
            await scene.target.attach(scene.first, copy, instead_of="")
            assert await scene.served("shop.example.com") == shop.facts.fingerprint
            await scene.target.detach(scene.first, copy.handle)
            assert await scene.served("shop.example.com") == scene.haproxy.placeholder
        load.is_over = True
        await asyncio.gather(*clients)
    assert set(load.seen) == {www.facts.fingerprint}

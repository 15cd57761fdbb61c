"""A constant load of TLS handshakes on all listeners of one machine, and what they showed."""

import asyncio
import contextlib
import itertools
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

ADDRESS = "127.0.0.1"
LONGEST_SECONDS = 10.0  # of one handshake


@dataclass(slots=True)
class Load:
    """Full handshakes with one listener after the other, each on a connection of its own.

    failures: what went wrong, and how often. seen: leaves (SHA-256) that nobody has judged yet.
    """

    ports: Sequence[int]
    server_name: str
    per_second: float
    made: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Begin handshakes at the rate for as long as the block lasts, however long single ones take."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def judge(self, right: set[str]) -> None:
        """Count the handshakes that showed another leaf than these as failures. A new leaf is known only afterwards."""
        for leaf, times in self.seen.items():
            if leaf not in right:
                self.failures[f"another leaf, {leaf[:16]}"] += times
        self.seen.clear()

    async def expect_everywhere(self, leaf: str) -> None:
        """Shake hands with each listener once more; another leaf is a failure."""
        for port in self.ports:
            shown = await self._shake(port)
            if shown not in {leaf, ""}:
                self.failures[f"not the new leaf: {shown[:16]}"] += 1

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        under_way: set[asyncio.Task[None]] = set()
        try:
            for number, port in enumerate(itertools.cycle(self.ports)):
                await asyncio.sleep(max(0.0, began + number / self.per_second - loop.time()))
                task = asyncio.create_task(self._look(port))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        finally:
            await asyncio.gather(*under_way)

    async def _look(self, port: int) -> None:
        leaf = await self._shake(port)
        if leaf:
            self.seen[leaf] += 1

    async def _shake(self, port: int) -> str:
        """Return the leaf that is served; "" after a failure."""
        self.made += 1
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                return await see_leaf(port, self.server_name)
        except (OSError, TimeoutError) as error:
            self.failures[f"{type(error).__name__}: {error}"] += 1
            return ""


async def see_leaf(port: int, server_name: str) -> str:
    """Return the leaf's fingerprint. Raises OSError, which every ssl.SSLError is."""
    _, writer = await asyncio.open_connection(ADDRESS, port, ssl=_CONTEXT, server_hostname=server_name)
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) or b""
    writer.transport.abort()
    return sha256(der).hexdigest()


def _make_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the leaf is compared, which says more
    return context


_CONTEXT = _make_context()

"""A web server on loopback that answers as each test says, byte by byte, and resolvers that answer as they like."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

from aiohttp.abc import AbstractResolver, ResolveResult

from certorbit.net.outbound_rules import OutboundRules

Answer = Callable[[asyncio.StreamWriter, "Web"], Awaitable[None]]


@dataclass
class Web:
    """A running server. answers: what is at each path. requests: the head of each request, in order."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def url(self, path: str, *, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def say(self, path: str, body: bytes = b"", *, status: str = "200 OK", headers: Sequence[str] = ()) -> str:
        """Let this be at the path. Returns: its URL."""
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]

        async def answer(writer: asyncio.StreamWriter, _: Web) -> None:
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            await writer.drain()

        self.answers[path] = answer
        return self.url(path)

    def redirect(self, path: str, target: str, *, status: str = "302 Found") -> str:
        return self.say(path, status=status, headers=[f"Location: {target}"])

    def rules(self) -> OutboundRules:
        """Return rules that allow this server alone."""
        return OutboundRules(allow=(ip_network("127.0.0.1/32"),), ports=frozenset({self.port}))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if first == b"\x16":  # TLS, which nobody speaks here
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                await writer.drain()
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.requests.append(head)
            answer = self.answers.get(head.split(" ")[1])
            if answer is None:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                await answer(writer, self)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone: what most of these tests are about
        finally:
            writer.close()


@asynccontextmanager
async def run_web() -> AsyncIterator[Web]:
    web = Web()
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0)
    web.port = server.sockets[0].getsockname()[1]
    try:
        yield web
    finally:
        server.close()


class FickleDNS(AbstractResolver):
    """Answers the first look-up of a name with its first address, the second one with the second, and so on."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self._addresses[min(self.asked, len(self._addresses) - 1)]
        self.asked += 1
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        pass

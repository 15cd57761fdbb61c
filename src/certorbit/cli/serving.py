"""The HTTP servers of one process: uvicorn, with TLS whose certificate changes while it serves."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from certorbit.cli.http_connection import Bounds, Connection
from certorbit.errors import Refused

GRACE_SECONDS: Final = 5  # how long open requests may go on; a POST that is cut off is safe to repeat
HANDSHAKE_SECONDS: Final = 10.0  # for a client that opens a connection and says nothing, or not enough
GOODBYE_SECONDS: Final = 2.0  # for the client's part of TLS's end
BACKLOG: Final = 2048


class Server(uvicorn.Server):
    """One listener. uvicorn without its signal handlers: one of ours stops all servers of the process.

    listener: closed when the server stops. context: None: plain HTTP.
    handshake_seconds: who has not ended the TLS handshake by then is cut off. bounds: on each connection's requests.
    """

    def __init__(
        self,
        app: Any,
        *,
        listener: socket.socket,
        context: ssl.SSLContext | None = None,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        bounds: Bounds = Bounds(),
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._listener = listener
        self._context = context
        self._handshake_seconds = handshake_seconds
        self._bounds = bounds

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        await super().startup(sockets=[])  # all but the listening
        self.servers = [await self._listen()]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - as above
        await super().shutdown(sockets=[self._listener])

    async def serve_with(self, context: ssl.SSLContext, *, hang_up: bool) -> None:
        """Shake hands with another context from now on; what is open goes on, and no connection is turned away.

        Both accept for a moment, from one queue. A new context in place of changes to the old one: a certificate of
        another kind of key would stand beside the old one, and sessions of old clients could be resumed.

        hang_up: open connections end after the answer that they wait for.
        """
        self._context = context
        if not self.started or self._is_stopping():
            return
        server = await self._listen()
        if self._is_stopping():  # the old ones may be closed meanwhile, and nobody would close this one
            server.close()
            return
        before, self.servers = self.servers, [server]
        for server in before:
            server.close()
        for connection in list(self.server_state.connections) if hang_up else ():
            connection.shutdown()

    def _is_stopping(self) -> bool:
        return self.should_exit

    async def _listen(self) -> asyncio.Server:
        is_tls = self._context is not None
        return await asyncio.get_running_loop().create_server(
            self._make_protocol,
            sock=self._listener.dup(),  # the loop closes its own
            ssl=self._context,
            backlog=BACKLOG,
            ssl_handshake_timeout=self._handshake_seconds if is_tls else None,
            ssl_shutdown_timeout=GOODBYE_SECONDS if is_tls else None,
        )

    def _make_protocol(self) -> asyncio.Protocol:
        return Connection(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, bounds=self._bounds
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        Refused: the address can't be used; the message says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Refused(
            f"{host}:{port} can't be listened on: {error.strerror}. Name another address or port.", subject="port"
        ) from error


def url_of(listener: socket.socket, *, is_tls: bool) -> str:
    """Return the URL that clients reach the listener by; every address means this machine's name."""
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = socket.gethostname()
    scheme = "https" if is_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

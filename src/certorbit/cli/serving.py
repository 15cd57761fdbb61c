"""The HTTP servers of one process: uvicorn, with TLS whose certificate changes while it serves."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog
import uvicorn
from cryptography import x509
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from certorbit.app import CLOCK
from certorbit.errors import BadMaterial, Refused
from certorbit.model.client_certificate import ClientCertificate
from certorbit.pki.read import read_facts

log = structlog.get_logger(__name__)

GRACE_SECONDS: Final = 5  # how long open requests may go on; a POST that is cut off is safe to repeat
HANDSHAKE_SECONDS: Final = 10.0  # for a client that opens a connection and says nothing, or not enough
GOODBYE_SECONDS: Final = 2.0  # for the client's part of TLS's end
BACKLOG: Final = 2048


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which notes who a client is by its certificate."""

    _client_certificate: ClientCertificate | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        if der is None:
            return
        try:
            self._client_certificate = _read_client(der)
        except BadMaterial as error:
            log.warning("tls.client_refused", message=error.message)
            transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._client_certificate is not None:
            self.scope["state"]["client_certificate"] = self._client_certificate


class Server(uvicorn.Server):
    """One listener. uvicorn without its signal handlers: one of ours stops all servers of the process.

    listener: closed when the server stops. context: None: plain HTTP.
    handshake_seconds: who has not ended the TLS handshake by then is cut off.
    """

    def __init__(
        self,
        app: Any,
        *,
        listener: socket.socket,
        context: ssl.SSLContext | None = None,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
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
        return _Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


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


def _read_client(der: bytes) -> ClientCertificate:
    """Return who the client is. OpenSSL has checked the certificate, but in a resumed session it did so earlier.

    Raises:
        BadMaterial: it has ended, or can't be read.
    """
    try:
        facts = read_facts(x509.load_der_x509_certificate(der))
    except ValueError:
        raise BadMaterial("The client's certificate can't be read.") from None
    if facts.not_after < CLOCK.now():
        raise BadMaterial(f"The client's certificate {facts.subject!r} has ended.")
    return ClientCertificate(
        subject=facts.subject, san=facts.san, fingerprint=facts.fingerprint, not_after=facts.not_after
    )

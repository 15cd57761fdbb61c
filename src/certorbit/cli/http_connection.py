"""One connection of a client: uvicorn's HTTP/1.1 with bounds on what a client may send and how long it may take.

uvicorn and its parser keep whatever headers come, for as long as they come. Bodies are bounded in size by the
application (`api/middleware.BodyLimit`), which reads none before it knows the key; here they are bounded in time.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

import orjson
import structlog
import uvicorn
from cryptography import x509
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from certorbit.app import CLOCK
from certorbit.errors import BadMaterial, TooLarge
from certorbit.model.client_certificate import ClientCertificate
from certorbit.pki.read import read_facts

log = structlog.get_logger(__name__)

_LINE_BYTES: Final = 4  # of a header line beside its name and value


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one connection may cost. A connection between two requests has uvicorn's own limit, 5 seconds.

    head_seconds: from a connection's start, or the first byte of its next request, to the end of the headers.
    body_seconds: from there to the end of the body. rest_seconds: for the rest of a body once its answer is given.
    most_waiting: requests that may be sent before the one ahead of them is answered.
    """

    head_bytes: int = 64 * 1024
    head_fields: int = 100
    target_bytes: int = 32 * 1024  # a hundred domains of 255 characters
    most_waiting: int = 32
    head_seconds: float = 15.0
    body_seconds: float = 60.0
    rest_seconds: float = 5.0


class _Part(Enum):
    """What comes next from the client."""

    NOTHING = auto()  # a request, but nobody has begun one
    HEAD = auto()
    BODY = auto()  # and the trailers


_MESSAGES: Final = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: "This is not a valid HTTP/1.1 request.",
        HTTPStatus.REQUEST_TIMEOUT: "The request did not come to its end in time; send it again.",
        HTTPStatus.REQUEST_URI_TOO_LONG: "The path and query are too long; send less in one request.",
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The headers are too many or too long; send less.",
    }
)


class Connection(HttpToolsProtocol):
    """A connection within bounds, which knows who the client is by its certificate."""

    def __init__(
        self, *, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], bounds: Bounds
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self._bounds = bounds
        self._client_certificate: ClientCertificate | None = None
        self._part = _Part.NOTHING
        self._is_over = False  # whatever else comes is not looked at
        self._fault = HTTPStatus.BAD_REQUEST
        self._counted = 0  # bytes of the lines that the parser gave us, of one head or of its trailers
        self._fields = 0
        self._kept = 0  # bytes that came and of which the parser may keep all to itself: half a line
        self._has_moved = False
        self._deadline: asyncio.TimerHandle | None = None

    # What the loop tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline(self._bounds.head_seconds)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        if der is None:
            return
        try:
            self._client_certificate = read_client(der)
        except BadMaterial as error:
            log.warning("tls.client_refused", message=error.message)
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_ended():
            return
        self._has_moved = False
        super().data_received(data)
        if self._is_ended():
            return
        if not self._has_moved:
            self._kept += len(data)
            if self._kept > self._bounds.head_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
        # Line ends between two requests begin none, but have ended uvicorn's limit for idle connections.
        is_begun = self._part is not _Part.NOTHING or not self._has_moved
        if self._deadline is None and is_begun:
            bounds = self._bounds
            self._set_deadline(bounds.body_seconds if self._part is _Part.BODY else bounds.head_seconds)

    # What the parser tells. Whatever is raised here comes back as `send_400_response`.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin(_Part.HEAD)
        if self._client_certificate is not None:
            self.scope["state"]["client_certificate"] = self._client_certificate

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) > self._bounds.target_bytes:
            self._raise_fault(HTTPStatus.REQUEST_URI_TOO_LONG)
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count(len(name) + len(value) + _LINE_BYTES)
        if self._part is _Part.HEAD:  # what stands behind a body is no header (RFC 9110 §6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= self._bounds.most_waiting:
            self._raise_fault(HTTPStatus.BAD_REQUEST)
        super().on_headers_complete()
        self._clear_deadline()
        self._begin(_Part.BODY)

    def on_body(self, body: bytes) -> None:
        self._has_moved = True
        self._kept = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._clear_deadline()
        self._begin(_Part.NOTHING)
        super().on_message_complete()

    # What the application's answers tell.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._part is _Part.BODY and self.cycle.response_complete and not self.transport.is_closing():
            self._set_deadline(self._bounds.rest_seconds)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        self._refuse(self._fault)

    def _is_ended(self) -> bool:
        return self._is_over or self.transport.is_closing()

    def _begin(self, part: _Part) -> None:
        self._part, self._has_moved = part, True
        self._counted = self._fields = self._kept = 0

    def _count(self, size: int) -> None:
        self._counted += size
        if self._counted > self._bounds.head_bytes or self._fields > self._bounds.head_fields:
            self._raise_fault(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _raise_fault(self, status: HTTPStatus) -> None:
        self._fault = status
        raise TooLarge(_MESSAGES[status], subject="head")

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(seconds, self._end_late, seconds)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_late(self, seconds: float) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # we don't read: nothing that the client could have done
            self._set_deadline(seconds)
        elif self._part is _Part.NOTHING and self._kept == 0:
            self.transport.close()  # who said nothing asked nothing
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        """End the connection with an answer of this status, unless one of another request would be cut or mixed up."""
        self._is_over = True
        self._clear_deadline()
        log.info("http.refused", status=int(status), client=self.client[0] if self.client else "")
        cycle: RequestResponseCycle | None = self.cycle
        if self._part is _Part.BODY:
            if not self.pipeline and not self.cycle.response_started:
                self.cycle.disconnected = True  # for whoever waits for the body
                self.cycle.message_event.set()
                self.transport.write(self._render(status))
        elif cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False  # the connection ends when all requests that came whole are answered
            return
        else:
            self.transport.write(self._render(status))
        self.transport.close()

    def _render(self, status: HTTPStatus) -> bytes:
        body = orjson.dumps({"code": int(status), "message": _MESSAGES[status]})  # contract.md, Errors
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        return STATUS_LINE[status] + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n" + body


def read_client(der: bytes) -> ClientCertificate:
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

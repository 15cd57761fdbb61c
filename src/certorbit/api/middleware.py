"""What happens around every request, as plain ASGI: paths, request ids, logs, metrics, headers, maintenance, sizes.

`certorbit.api.app` puts them together; the order matters and stands there.
"""

import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from certorbit.api.maintenance import PATH as MAINTENANCE_PATH
from certorbit.api.maintenance import MaintenanceSwitch
from certorbit.errors import ReadOnly, TooLarge
from certorbit.model.access import Principal
from certorbit.model.client_certificate import ClientCertificate
from certorbit.observe.metrics import Metrics

log = structlog.get_logger(__name__)

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# The words that clients of the WAAP API look for (contract.md, Authentication).
MAINTENANCE_TEXT = (
    "System is under maintenance. Create, update, and delete requests are not allowed until upgrade is done."
)
_METHODS = WRITES | {"GET", "HEAD", "OPTIONS"}
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_NO_ROUTE = "(none)"
_LONGEST_CLIENT = 200  # characters of a client certificate's names in a log line; its CA wrote them
_SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",  # private keys travel here; no proxy or browser keeps any of it
}


class TidyRequest:
    """A path with a slash at its end is the same resource (contract.md); a HEAD is a GET without its body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        tidy: Scope = dict(scope)  # a copy: the server itself looks at its own
        tidy["state"] = dict(scope.get("state") or {})
        if len(tidy["path"]) > 1 and tidy["path"].endswith("/"):
            tidy["path"] = tidy["path"][:-1]
        if tidy["method"] != "HEAD":
            await self.app(tidy, receive, send)
            return
        tidy["method"] = "GET"
        tidy["state"]["is_head"] = True

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app(tidy, receive, send_head)


class Observe:
    """Gives the request its id, writes its one log line and counts it. Routes are logged as templates."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, new_id: Callable[[], str]) -> None:
        self.app = app
        self._new_id = new_id
        self._requests = metrics.counter(
            "certorbit_http_requests_total", meaning="Answered requests.", labels=("method", "route", "status")
        )
        self._seconds = metrics.histogram(
            "certorbit_http_request_seconds",
            meaning="Time from a request's headers to the end of its answer.",
            labels=("method", "route"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = self._new_id()
        scope["state"]["request_id"] = request_id
        status = 0  # stays 0 when the client was gone before the answer

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                self._record(scope, status=status, seconds=time.perf_counter() - started)

    def _record(self, scope: Scope, *, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        method = "HEAD" if scope["state"].get("is_head") else scope["method"]
        method = method if method in _METHODS else "OTHER"  # the client's own words would be endless labels
        self._requests.add(method, route, str(status))
        self._seconds.observe(method, route, amount=seconds)
        principal = scope["state"].get("principal")
        write = log.debug if route in _PROBES else log.info
        write(
            "http.request",
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            key_id=principal.key_id if isinstance(principal, Principal) else "",
            **_describe_client(scope["state"].get("client_certificate")),
        )


def _describe_client(certificate: object) -> dict[str, object]:
    """Return the log's fields of a client's certificate; none if it showed none."""
    if not isinstance(certificate, ClientCertificate):
        return {}
    return {
        "client_subject": certificate.subject[:_LONGEST_CLIENT],
        "client_san": ", ".join(certificate.san)[:_LONGEST_CLIENT],
        "client_fingerprint": certificate.fingerprint,
    }


class SecureHeaders:
    """Adds the headers that keep answers out of caches, frames and guesses; an answer's own values win."""

    def __init__(self, app: ASGIApp, *, hsts_seconds: int) -> None:
        """hsts_seconds: how long browsers may use HTTPS alone (RFC 6797); 0: no word of it."""
        self.app = app
        self._headers = dict(_SECURITY_HEADERS)
        if hsts_seconds:
            self._headers["strict-transport-security"] = f"max-age={hsts_seconds}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_secured if scope["type"] == "http" else send)


class Maintenance:
    """In maintenance mode nothing is written; only the switch itself can be used, and people can sign out."""

    def __init__(self, app: ASGIApp, *, switch: MaintenanceSwitch) -> None:
        self.app = app
        self._switch = switch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in WRITES:
            is_open = (scope["method"], scope["path"]) in {("POST", MAINTENANCE_PATH), ("POST", "/auth/logout")}
            if not is_open and await self._switch.is_on():
                raise ReadOnly(MAINTENANCE_TEXT)
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses bodies over the limit: by their announced length, else by counting what comes."""

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        self.app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._most:
            raise self._refusal()
        came = 0

        async def receive_counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                raise self._refusal()
            return message

        await self.app(scope, receive_counted, send)

    def _refusal(self) -> TooLarge:
        return TooLarge(
            f"The request body is over the limit of {self._most} bytes; send less, or raise CERTORBIT_MAX_BODY_BYTES.",
            subject="body",
        )

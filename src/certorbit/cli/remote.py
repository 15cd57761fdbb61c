"""A running service as the operator's commands reach it: its API over HTTP, by the standard library alone."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from ssl import CERT_NONE, PROTOCOL_TLS_CLIENT, SSLCertVerificationError, SSLContext, SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from certorbit.cli.server_trust import TRUST, ServerTrust
from certorbit.cli.wording import in_commands
from certorbit.errors import BadInput, Refused, Unreachable

NATIVE = "/api/certorbit/v1"
DIALECT = "/api/v4.3"
DEFAULT_URL = "http://127.0.0.1:8080"
# The service answers a revocation, its slowest request, within 25 seconds (services/revocation.py).
TIMEOUT_SECONDS = 60.0
PROBE_SECONDS = 3.0
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}  # OpenSSL's reasons at a plain answer
Body = dict[str, object] | list[dict[str, str]] | None
MOST_LINE_BYTES = 16 * 1024 * 1024  # of a record of the audit trail
MOST_ANSWER_BYTES = 64 * 1024 * 1024  # a forecast of 10,000 renewals of 100 names is half of it


class _NoRedirect(HTTPRedirectHandler):
    """The service never redirects; whoever does would get the key."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Remote:
    """url: the service's, without a path. api_key: sent as it stands. trust: for https, who the service has to be."""

    url: str
    api_key: str = field(repr=False)
    trust: ServerTrust = field(default_factory=ServerTrust)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable:
            raise BadInput(f"--url: {self.url!r} is no http or https URL; give one as http://127.0.0.1:8080.")
        if not self.api_key:
            raise BadInput("There is no API key; put one with the right for this into CERTORBIT_API_KEY.")
        if not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key:
            raise BadInput("CERTORBIT_API_KEY is no API key: it has characters that none has.")

    def call(
        self,
        method: str,
        *path: str,
        body: Body = None,
        query: dict[str, object] | None = None,
        prefix: str = NATIVE,
        seconds: float = TIMEOUT_SECONDS,
    ) -> Any:
        """Send a request and return the answer's JSON value.

        Args:
            path: its parts below the prefix, not quoted.
            prefix: of the native API, or of a dialect.
            seconds: the longest wait for the answer.

        Raises:
            Refused: the service said no; the message is its own. Unreachable: there is no answer of a service.
        """
        return self._read(self._ask(method, path, body=body, query=query, prefix=prefix, seconds=seconds))

    def tell(
        self, method: str, *path: str, body: Body = None, query: dict[str, object] | None = None, prefix: str
    ) -> None:
        """Send a request of the dialects whose answer is its status alone. Arguments and errors: see `call`."""
        answer = self._ask(method, path, body=body, query=query, prefix=prefix, seconds=TIMEOUT_SECONDS)
        if answer:
            self._read(answer)

    def lines(self, *path: str, query: dict[str, object] | None = None) -> Iterator[bytes]:
        """Yield the lines of an answer of the native API, however long it is. Errors: see `call`."""
        with self._open(self._request("GET", path, body=None, query=query, prefix=NATIVE), TIMEOUT_SECONDS) as answer:
            while line := answer.readline(MOST_LINE_BYTES + 1):
                if len(line) > MOST_LINE_BYTES or not line.endswith(b"\n"):
                    raise Unreachable(f"The answer of {self.url} is cut off.", subject=self.url, phase="read")
                yield line

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        body: Body,
        query: dict[str, object] | None,
        prefix: str,
        seconds: float,
    ) -> bytes:
        with self._open(self._request(method, path, body=body, query=query, prefix=prefix), seconds) as response:
            answer: bytes = response.read(MOST_ANSWER_BYTES + 1)
        if len(answer) > MOST_ANSWER_BYTES:
            raise Unreachable(f"{self.url} answers with too much.", subject=self.url, phase="read")
        return answer

    def _request(
        self, method: str, path: tuple[str, ...], *, body: Body, query: dict[str, object] | None, prefix: str
    ) -> Request:
        address = self.url.rstrip("/") + prefix + "".join(f"/{quote(part, safe='')}" for part in path)
        if query:
            address += "?" + urlencode(query)
        request = Request(address, method=method, data=None if body is None else json.dumps(body).encode())  # noqa: S310 - the scheme is checked above
        request.add_header("Authorization", f"Basic {self.api_key}")
        request.add_header("Content-Type", "application/json")
        return request

    @contextmanager
    def _open(self, request: Request, seconds: float) -> Iterator[Any]:
        """Give the answer to be read; what goes wrong with that is translated, too."""
        opener: OpenerDirector = build_opener(_NoRedirect, self.trust.handler())
        try:
            with opener.open(request, timeout=seconds) as response:
                yield response
        except HTTPError as error:
            with error:
                said = _said(error.code, error.read(MOST_ANSWER_BYTES), self.url)
                raise Refused(in_commands(said, address=request.full_url)) from None
        except (URLError, HTTPException, TimeoutError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise Unreachable(
                f"{self.url} can't be reached: {reason}. {_advise(reason, self.url)}",
                subject=self.url,
                phase="connect",
            ) from error

    def _read(self, answer: bytes) -> Any:
        try:
            return json.loads(answer)
        except ValueError:
            raise Unreachable(
                f"What answers at {self.url} is no Certorbit: the answer is not JSON.", subject=self.url, phase="read"
            ) from None


def _advise(reason: object, url: str) -> str:
    """Return what to do when a request got no answer of the service."""
    parts = urlsplit(url)
    if isinstance(reason, SSLCertVerificationError):
        return "--ca-file names the CA that its certificate is from, --fingerprint a certificate (docs/tls.md)."
    if parts.scheme == "https" and isinstance(reason, SSLError) and _NO_TLS & {str(reason.reason)}:
        return f"What answers there speaks plain HTTP: write http://{parts.netloc}, if that is the service."
    if parts.scheme == "http" and _speaks_https(parts.hostname or "", parts.port or 80):
        return f"What answers there speaks HTTPS: write https://{parts.netloc} (docs/tls.md)."
    return "Is the service running there? --url or CERTORBIT_URL names another address."


def _speaks_https(host: str, port: int) -> bool:
    """Return whether a TLS handshake works there. Whose certificate it is doesn't matter: nothing is sent."""
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS) as connection:
            context.wrap_socket(connection, server_hostname=host).close()
    except SSLError as error:
        return "CERTIFICATE_REQUIRED" in str(error.reason)  # it wants to see one, so it is HTTPS
    except (OSError, ValueError):
        return False
    return True


def service_at(url: str) -> Remote:
    """Return the service. Its key comes from the environment alone: options show in lists of processes."""
    return Remote(url, os.environ.get("CERTORBIT_API_KEY", "").strip(), TRUST.get())


def _said(status: int, body: bytes, url: str) -> str:
    """Return the service's own message, or what came instead of one."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        message, detail = document.get("message"), document.get("detail")
        if isinstance(message, str):
            return f"{message} (status {status})"
        if isinstance(detail, list):
            return f"{'; '.join(map(_describe, detail))} (status {status})"
    return f"What answers at {url} is no Certorbit, or one that doesn't know this command (status {status})."


def _describe(item: Any) -> str:
    """Return one validation error (contract.md, Errors): where, and what."""
    if not isinstance(item, dict):
        return str(item)
    place = ".".join(str(part) for part in item.get("loc", []) if part not in {"body", "path", "query"})
    return f"{place}: {item.get('msg', '')}"

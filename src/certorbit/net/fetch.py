"""The guarded fetcher: for every URL that comes from a certificate, a client, or a setting that is not marked trusted.

What it holds to: http and https on listed ports; no credentials; each address is looked at when its own socket is
opened, so an answer of the DNS that changes between two look-ups gains nothing; at most three redirects, each looked
at like the first URL; a bound on bytes, on time, and on slowness. Proxies of the environment are not used, no cookies
are kept, nothing is decompressed. Who calls it decides about trying again.

Not for the operator's own URLs (issuers, solvers, targets, webhooks): those are trusted settings.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver

from certorbit.errors import NEVER, Unreachable
from certorbit.net.guard import AddressRefused, find_fault, lower_scheme, show_url
from certorbit.net.outbound_rules import OutboundRules

MOST_REDIRECTS: Final = 3
# A body must bring this much in every such time until it is whole: a line of two years ago brings it in a fiftieth.
LEAST_BYTES: Final = 8 * 1024
WINDOW_SECONDS: Final = 10.0
_LONGEST_HEADER: Final = 1024  # characters, of an ETag that is kept
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one fetch, redirects included. window_seconds: `LEAST_BYTES` of the body must come in each."""

    most_bytes: int
    seconds: float
    window_seconds: float = WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class Validators:
    """What the server said of the copy that is here already (RFC 9110 §8.8); "" for what it didn't say."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came. body: None: the copy that is here already is still the present one (304)."""

    body: bytes | None
    validators: Validators


class GuardedFetcher:
    """Fetches. Every fetch has connections of its own, so no connection is ever used for a host it wasn't opened for.

    resolver: who answers for host names; None: the system. trust: who may vouch for https servers; None: the system's
    roots.
    """

    def __init__(
        self, rules: OutboundRules, *, resolver: AbstractResolver | None = None, trust: ssl.SSLContext | None = None
    ) -> None:
        self._rules = rules
        self._resolver = resolver
        self._trust = trust or ssl.create_default_context()

    async def fetch(self, url: str, *, bounds: Bounds, known: Validators | None = None) -> Fetched:
        """Return what is at the URL.

        Args:
            url: as somebody else wrote it.
            known: of the copy that is here already; makes the request conditional.

        Raises:
            Unreachable: phase "guard": the URL, or one that it redirects to, may not be asked (retry NEVER);
                "resolve", "connect", "TLS", "read": nothing usable came within the bounds.
        """
        try:
            async with asyncio.timeout(bounds.seconds):
                for _ in range(MOST_REDIRECTS + 1):
                    url = lower_scheme(url)
                    self._check_url(url)
                    found = await self._ask(url, bounds=bounds, known=known or Validators())
                    if isinstance(found, Fetched):
                        return found
                    url = _check_redirect(found, before=url)
        except TimeoutError as error:
            host = _host(url)
            message = f"{host} didn't answer fully within {bounds.seconds:g} s."
            raise Unreachable(message, subject=host, phase="read") from error
        raise _refuse(url, f"there are more than {MOST_REDIRECTS} redirects on the way to it")

    def _check_url(self, url: str) -> None:
        fault = find_fault(url)
        if not fault:
            parts = urlsplit(url)
            port = parts.port if parts.port is not None else {"http": 80, "https": 443}[parts.scheme]
            if port not in self._rules.ports:
                fault = f"port {port} is not among those of the setting [outbound] ports"
        if fault:
            raise _refuse(url, fault)

    async def _ask(self, url: str, *, bounds: Bounds, known: Validators) -> Fetched | str:
        """Return what came, or the URL of a redirect as the server wrote it, made absolute."""
        host, door = _host(url), _Door(self._rules)
        connector = aiohttp.TCPConnector(
            resolver=self._resolver or ThreadedResolver(),
            socket_factory=door.open_socket,
            ssl=self._trust,
            force_close=True,
            use_dns_cache=False,
        )
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    trust_env=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=bounds.window_seconds, sock_read=bounds.window_seconds
                    ),
                ) as session,
                session.get(url, headers=_headers(known), allow_redirects=False) as answer,
            ):
                return await self._take(answer, host=host, bounds=bounds, known=known)
        except aiohttp.InvalidURL as error:  # "127.1", "2130706433": numbers that only old programs read as addresses
            raise _refuse(url, "its host is no name and no address") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translate(error, host=host, refused=door.refused) from error

    async def _take(
        self, answer: aiohttp.ClientResponse, *, host: str, bounds: Bounds, known: Validators
    ) -> Fetched | str:
        if answer.status in _REDIRECTS:
            target = answer.headers.get("Location", "")
            if not target:
                raise _bad_answer(host, f"answered {answer.status} without saying where to go")
            return _join(str(answer.url), target)
        validators = Validators(
            etag=_keepable(answer.headers.get("ETag", "")),
            last_modified=_keepable(answer.headers.get("Last-Modified", "")),
        )
        if answer.status == 304 and known != Validators():
            return Fetched(None, known)
        if answer.status != 200:
            raise _bad_answer(host, f"answered {answer.status}")
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in {"", "identity"}:
            raise _bad_answer(host, f"compressed its answer ({encoding[:20]!r}) although that was refused")
        if answer.content_length is not None and answer.content_length > bounds.most_bytes:
            raise _too_big(host, bounds)
        return Fetched(await _read(answer.content, host=host, bounds=bounds), validators)


class _Door:
    """Opens the sockets of one request: the last look at the address, the one that is connected to."""

    def __init__(self, rules: OutboundRules) -> None:
        self._rules = rules
        self.refused: list[str] = []

    def open_socket(self, address_info: Any) -> socket.socket:
        """Return an unconnected socket for an entry of `getaddrinfo`. Raises AddressRefused."""
        family, kind, protocol, _, target = address_info
        if not self._rules.permits(target[0]):
            self.refused.append(str(target[0]))
            raise AddressRefused(f"{target[0]} is not a public address, and no setting allows it")
        return socket.socket(family, kind, protocol)


async def _read(content: aiohttp.StreamReader, *, host: str, bounds: Bounds) -> bytes:
    """Return the body. In every window of time enough of it must come, however many pieces it comes in."""
    body = bytearray()
    while True:
        wanted = len(body) + LEAST_BYTES
        try:
            async with asyncio.timeout(bounds.window_seconds):
                while len(body) < wanted:
                    chunk = await content.readany()
                    if not chunk:
                        return bytes(body)
                    body += chunk
                    if len(body) > bounds.most_bytes:
                        raise _too_big(host, bounds)
        except TimeoutError as error:
            raise _bad_answer(host, f"sent less than {LEAST_BYTES} bytes in {bounds.window_seconds:g} s") from error


def _keepable(text: str) -> str:
    """Return a header's value if it can be stored and sent back as it is, else ""."""
    return text if text.isascii() and text.isprintable() and len(text) <= _LONGEST_HEADER else ""


def _headers(known: Validators) -> dict[str, str]:
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "certorbit"}
    if known.etag:
        headers["If-None-Match"] = known.etag
    if known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    return headers


def _check_redirect(url: str, *, before: str) -> str:
    if before.startswith("https:") and lower_scheme(url).startswith("http:"):
        raise _refuse(url, "a redirect leads from https to http")
    return url


def _join(base: str, target: str) -> str:
    try:
        return urljoin(base, target)
    except ValueError:  # a broken IPv6 address
        raise _refuse(target, "it is not a URL") from None


def _translate(error: Exception, *, host: str, refused: Sequence[str]) -> Unreachable:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable(f"The name {host} has no address.", subject=host, phase="resolve")
    if isinstance(error, aiohttp.ClientConnectorSSLError | aiohttp.ClientConnectorCertificateError):
        return Unreachable(f"{host} showed no certificate that can be trusted.", subject=host, phase="TLS")
    if isinstance(error, aiohttp.ClientConnectorError):
        if refused:
            return _refuse_address(host, refused)
        return Unreachable(
            f"{host} can't be reached: {error.os_error.strerror or 'no connection'}.", subject=host, phase="connect"
        )
    if isinstance(error, aiohttp.ServerTimeoutError):
        return Unreachable(f"{host} fell silent.", subject=host, phase="read")
    return Unreachable(f"{host} broke off: {type(error).__name__}.", subject=host, phase="read")


def _refuse(url: str, reason: str) -> Unreachable:
    return Unreachable(
        f"The URL {show_url(url)} is not asked: {reason}.", subject=_host(url), phase="guard", retry=NEVER
    )


def _refuse_address(host: str, refused: Sequence[str]) -> Unreachable:
    return Unreachable(
        f"{host} is not asked: it leads to {', '.join(refused[:3])}, which is not public. If that is right, add its"
        " network to the setting [outbound] allow.",
        subject=host,
        phase="guard",
        retry=NEVER,
    )


def _bad_answer(host: str, what: str) -> Unreachable:
    return Unreachable(f"{host} {what}.", subject=host, phase="read")


def _too_big(host: str, bounds: Bounds) -> Unreachable:
    return _bad_answer(host, f"sent more than {bounds.most_bytes} bytes")


def _host(url: str) -> str:
    """Return the host of a URL that may be any text, fit for a message."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return host[:253] if host and host.isprintable() else "the URL's host"

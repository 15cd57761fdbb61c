"""HTTP to one CA: one pool of connections, bounded in number, time and size; aiohttp is known nowhere else."""

import asyncio
import ssl
from importlib.metadata import version
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from certorbit.acme.answer import Answer, clean
from certorbit.errors import BadInput, Unreachable
from certorbit.net.guard import AddressGuard, AddressRefused, check_ca_url

CONNECT_SECONDS = 10.0
TOTAL_SECONDS = 30.0
MOST_ANSWER_BYTES = 1_048_576  # ours: a chain is 6 KB, an order of 100 names 25 KB
_HEADERS: Final = {
    # RFC 8555 §6.1: clients MUST send a User-Agent and SHOULD send Accept-Language.
    "User-Agent": f"certorbit/{version('certorbit')} aiohttp/{aiohttp.__version__}",
    "Accept-Language": "en",
    # An answer is bounded before it could be inflated, so none is taken compressed.
    "Accept-Encoding": "identity",
}


def was_not_sent(error: Unreachable) -> bool:
    """Return whether the CA can't have received the request, so that sending it again repeats nothing."""
    return not error.was_sent


class Transport:
    """Sends single requests to one CA. No redirects, no cookies, no proxies from the environment, no retries.

    Belongs to the event loop that it is first used in.

    Args:
        ca: the issuer's name, for messages.
        directory: the CA's directory URL; it decides what other URLs are allowed (`net.guard`).
        ca_bundle: PEM file of the only roots that are trusted for this CA; None: the system's.
        max_requests_in_flight: requests (and connections) at a time; further ones wait their turn.
        total_seconds: for one request, from its turn to the last byte of the answer.

    Raises:
        BadInput: the bundle can't be read or holds no certificates.
    """

    def __init__(
        self,
        *,
        ca: str,
        directory: str,
        ca_bundle: Path | None,
        max_requests_in_flight: int,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._ca = ca
        self._directory = directory
        self._ssl_context = _trust(ca, ca_bundle)
        self._limit = max_requests_in_flight
        self._timeout = aiohttp.ClientTimeout(total=total_seconds, sock_connect=CONNECT_SECONDS)
        self._turn = asyncio.Semaphore(max_requests_in_flight)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, url: str, *, body: bytes | None = None, accept: str = "*/*") -> Answer:
        """Send one request and return the whole answer, whatever its status.

        Raises:
            Unreachable: no usable answer; `was_not_sent` tells whether the CA may have received the request.
        """
        check_ca_url(url, directory=self._directory)
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/jose+json"  # RFC 8555 §6.2
        async with self._turn:
            try:
                async with self._open_session().request(
                    method, URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
                ) as response:
                    return Answer(self._ca, url, response.status, response.headers, await self._read(response, url))
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise self._translate(error, url) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            guard = AddressGuard(self._directory)
            self._session = aiohttp.ClientSession(
                connector=guard.connector(ssl_context=self._ssl_context, limit=self._limit),
                timeout=self._timeout,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse, url: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > MOST_ANSWER_BYTES:
                raise Unreachable(
                    f"The CA {self._ca} answered with more than {MOST_ANSWER_BYTES} bytes.",
                    subject=URL(url).host or url,
                    phase="answer",
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _translate(self, error: Exception, url: str) -> Unreachable:
        host = URL(url, encoded=True).host or url
        phase = _phase_of(error)
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        hint = ". If its roots are your own, name them in the issuer's ca_bundle." if phase == "TLS" else ""
        return Unreachable(
            f"The CA {self._ca} can't be reached ({phase} {host}): {clean(reason, longest=300)}{hint}",
            subject=host,
            phase=phase,
        )


def _phase_of(error: Exception) -> str:
    """Return how far we came: only a failure that surely came before the request counts as such."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "resolve"
        case aiohttp.ClientSSLError():
            return "TLS"
        case aiohttp.ClientConnectorError(os_error=AddressRefused()):
            return "guard"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError() | aiohttp.InvalidURL():
            return "connect"
        case _:
            return "read"


def _trust(ca: str, ca_bundle: Path | None) -> ssl.SSLContext | bool:
    """Return what TLS connections are checked against; True: the system's roots, loaded once for all by aiohttp."""
    if ca_bundle is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        raise BadInput(
            f"issuer {ca!r}: ca_bundle {ca_bundle} can't be used: {error.strerror or error}. Name a PEM file with the"
            " CA's roots.",
            subject="ca_bundle",
        ) from error

"""Requests to the identity provider: bounded in time and size, no redirects, JSON objects alone.

The provider is a setting of the operator's, so its address is not guarded; a private one is the usual case.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

from certorbit.errors import BadInput, Unreachable
from certorbit.net.json_exchange import safe_words
from certorbit.oidc_settings import is_safe_url

MOST_BYTES: Final = 262_144  # of an answer; metadata and keys have some thousand
_AT_ONCE: Final = 8  # requests; strangers can make us ask (sign-ins that they began), not flood the provider


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """body: the JSON object; empty if there was none."""

    status: int
    body: Mapping[str, Any]


class ProviderHTTP:
    """One pool of connections to the provider.

    Raises:
        BadInput: ca_bundle can't be read.
    """

    def __init__(self, *, ca_bundle: Path | None, seconds: float) -> None:
        self._trust = _trust(ca_bundle)
        self._seconds = seconds
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> ProviderAnswer:
        """Return the answer to a GET, whatever its status. Raises Unreachable."""
        return await self._send("GET", url, headers=headers or {})

    async def post_form(self, url: str, form: Mapping[str, str], *, headers: Mapping[str, str]) -> ProviderAnswer:
        """Return the answer to a form, whatever its status. Raises Unreachable."""
        return await self._send("POST", url, headers=headers, form=form)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _send(
        self, method: str, url: str, *, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> ProviderAnswer:
        host = urlsplit(url).hostname or url
        if not is_safe_url(url):
            raise unreachable(host, "its metadata names an address that is no https URL", phase="guard")
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._turn,
                self._open_session().request(
                    method,
                    URL(url, encoded=True),
                    data=form,
                    headers={"Accept": "application/json", **headers},
                    allow_redirects=False,
                ) as answer,
            ):
                content = await _read(answer, host=host)
        except TimeoutError as error:
            raise unreachable(host, f"no answer within {self._seconds:g} s", phase="read") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            phase = "TLS" if isinstance(error, aiohttp.ClientSSLError) else "connect"
            raise unreachable(host, safe_words(str(error)) or type(error).__name__, phase=phase) from error
        return ProviderAnswer(answer.status, _parse(content))

    def _open_session(self) -> aiohttp.ClientSession:
        """Return the session; made by the first request, inside the loop that it belongs to."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._trust, limit=_AT_ONCE),
                timeout=aiohttp.ClientTimeout(total=self._seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def unreachable(host: str, why: str, *, phase: str) -> Unreachable:
    """Return the error for a provider that is of no use now."""
    return Unreachable(
        f"The identity provider {host} can't be used: {why}. Try again later, or use an API key.",
        subject=host,
        phase=phase,
    )


async def _read(answer: aiohttp.ClientResponse, *, host: str) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > MOST_BYTES:
            answer.close()
            raise unreachable(host, f"it answered with more than {MOST_BYTES} bytes", phase="read")
    return bytes(content)


def _parse(content: bytes) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _trust(ca_bundle: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_bundle is None else str(ca_bundle))
    except (OSError, ssl.SSLError) as error:
        raise BadInput(
            f"[oidc] ca_bundle: {ca_bundle} can't be used: {error.strerror or error}.", subject="ca_bundle"
        ) from error

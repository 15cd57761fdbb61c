"""One exchange of JSON with a provider's API: bounded in time and size, and with words that are fit to be shown.

What an answer means is the caller's business; so is trying again.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import orjson

from certorbit.errors import BACKOFF, Retry, Unreachable, retry_at

MOST_BYTES: Final = 16 * 1024 * 1024  # ours: a page of five hundred certificates with long chains is a tenth of it
MOST_WORDS: Final = 300  # characters of a provider's own words in a message of ours
LONGEST_PAUSE: Final = timedelta(days=1)  # ours: a Retry-After beyond it is taken as this
# APIs repeat refused values in their messages. PEM, plain or in base64, is cut off with all that follows it.
_PEM = re.compile(r"-----BEGIN|LS0tLS1CRUdJTi")


@dataclass(frozen=True, slots=True)
class JSONAnswer:
    """body: the JSON object; empty for an answer of an error status that holds none. text: its first characters."""

    status: int
    body: Mapping[str, Any]
    text: str
    retry_after: str


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    seconds: float,
    headers: Mapping[str, str],
    query: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> JSONAnswer:
    """Send one request and return its answer, whatever its status. Redirects are not followed.

    Raises:
        Unreachable: no answer within the time, one that is too big, or a 2xx answer that is no JSON object.
    """
    data = None if body is None else orjson.dumps(body)
    host = _host(url)
    try:
        # The timeout of the session doesn't bound what a slow server writes into its answer.
        async with (
            asyncio.timeout(seconds),
            session.request(
                method, url, params=query or {}, data=data, headers=dict(headers), allow_redirects=False
            ) as answer,
        ):
            content = await _read(answer, host=host)
    except TimeoutError as error:
        raise Unreachable(f"{host} didn't answer within {seconds:g} s.", subject=host, phase="read") from error
    except (aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorCertificateError) as error:
        raise Unreachable(f"{host}: {safe_words(str(error))}.", subject=host, phase="TLS") from error
    except aiohttp.ClientConnectorError as error:
        raise Unreachable(f"{host} can't be reached: {error.os_error}.", subject=host, phase="connect") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unreachable(f"{host} broke off: {type(error).__name__}.", subject=host, phase="read") from error
    return JSONAnswer(
        status=answer.status,
        body=_parse(content, host=host, is_needed=200 <= answer.status < 300),
        text=content[: 4 * MOST_WORDS].decode("utf-8", "replace"),
        retry_after=answer.headers.get("Retry-After", ""),
    )


def safe_words(text: str) -> str:
    """Return a provider's words for a message: printable, bounded, nothing that looks like PEM, no final dot."""
    shown = "".join(character if character.isprintable() else " " for character in _PEM.split(text, maxsplit=1)[0])
    return " ".join(shown.split())[:MOST_WORDS].rstrip(". ")


def read_retry_after(text: str, *, now: datetime) -> Retry:
    """Return when to try again by a Retry-After header (RFC 9110 §10.2.3: seconds or a date), else BACKOFF."""
    try:
        pause = timedelta(seconds=int(text)) if text.strip().isdecimal() else parsedate_to_datetime(text) - now
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return BACKOFF
    return retry_at(now + min(max(pause, timedelta(0)), LONGEST_PAUSE))


async def _read(answer: aiohttp.ClientResponse, *, host: str) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > MOST_BYTES:
            answer.close()
            raise Unreachable(
                f"{host} sent an answer of more than {MOST_BYTES // 1024 // 1024} MiB.", subject=host, phase="read"
            )
    return bytes(content)


def _parse(content: bytes, *, host: str, is_needed: bool) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        parsed = None
    if isinstance(parsed, dict):
        return parsed
    if is_needed:
        raise Unreachable(f"{host} sent an answer that is no JSON object.", subject=host, phase="read")
    return {}


def _host(url: str) -> str:
    return url.split("://", 1)[-1].split("/", 1)[0]

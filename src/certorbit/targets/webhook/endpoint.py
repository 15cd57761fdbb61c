"""Signed requests to the operator's endpoint: time limits, tries, no redirects, and answers of a bounded size."""

import asyncio
import hmac
import json
import ssl
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

import aiohttp

from certorbit.clock import Chance, Clock
from certorbit.errors import (
    CredentialsRefused,
    Outside,
    TargetFull,
    TargetGone,
    TargetRefused,
    Throttled,
    Unreachable,
    retry_at,
)
from certorbit.net.tries import Passing
from certorbit.target_settings.webhook import WebhookTargetSettings
from certorbit.targets.tries import call_again
from certorbit.targets.webhook.answers import Answer, read_answer
from certorbit.targets.words import show_words

SIGNATURE: Final = "Certorbit-Signature"
TIMESTAMP: Final = "Certorbit-Timestamp"
LARGEST_ANSWER: Final = 4 * 1024 * 1024  # bytes
_LONGEST_WAIT: Final = 5.0  # seconds of Retry-After that a try is worth; the workflow waits longer ones
_MOST_RETRY_AFTER: Final = 86_400
_PASSING: Final = frozenset({408, 425, 500, 502, 503, 504})
A = TypeVar("A", bound=Answer)


class Endpoint:
    """One URL. Belongs to the event loop that it is first used in."""

    def __init__(
        self, settings: WebhookTargetSettings, context: ssl.SSLContext, *, clock: Clock, chance: Chance
    ) -> None:
        self._settings = settings
        self._context = context
        self._clock = clock
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, action: str, members: Mapping[str, Any], form: type[A], *, subject: str) -> A:
        """Post an action, and return the endpoint's answer in its form.

        subject: what it is about, for messages.

        Raises:
            Outside: as the port of targets has it.
        """
        body = json.dumps({"action": action, "target": self._settings.name, **members}).encode()
        post = partial(self._post, body, action=action, subject=subject)
        content = await call_again(
            post, target=self._settings.name, what=action, clock=self._clock, chance=self._chance
        )
        try:
            return read_answer(content, form)
        except ValueError as error:
            raise TargetRefused(
                self._say(action, f"the endpoint's answer is not what docs/targets/webhook.md asks for: {error}"),
                subject=subject,
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes, *, action: str, subject: str) -> bytes:
        timestamp = str(int(self._clock.now().timestamp()))
        secret = self._settings.secret.get_secret_value()
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: sign(body, timestamp=timestamp, secret=secret),
        }
        try:
            # The timeout of the session doesn't bound what a slow endpoint writes into its answer.
            async with (
                asyncio.timeout(self._settings.timeout_seconds),
                self._open_session().post(
                    self._settings.url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                content = await _read(answer.content)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise Passing(
                Unreachable(
                    self._say(action, f"the endpoint doesn't answer ({type(error).__name__})"),
                    subject=subject,
                    phase="connect" if isinstance(error, aiohttp.ClientConnectorError) else "read",
                )
            ) from error
        if len(content) > LARGEST_ANSWER:
            raise TargetRefused(
                self._say(action, f"the endpoint's answer is larger than {LARGEST_ANSWER} bytes"), subject=subject
            )
        if 200 <= answer.status < 300:
            return content
        raise self._failure(answer, content, action=action, subject=subject)

    def _failure(
        self, answer: aiohttp.ClientResponse, content: bytes, *, action: str, subject: str
    ) -> Outside | Passing:
        status = answer.status
        words = show_words(content[:4096].decode("utf-8", "replace"))
        message = self._say(action, f"the endpoint answers {status} {words!r}")
        if status in {401, 403}:
            return CredentialsRefused(f"{message} It checks the secret and the clock.", subject=subject)
        if status == 404:
            return TargetGone(message, subject=subject)
        if status == 507:
            return TargetFull(message, subject=subject)
        if status == 429:
            return self._throttled(answer.headers.get("Retry-After", ""), message, subject=subject)
        if status in _PASSING:
            return Passing(Unreachable(message, subject=subject, phase="read"))
        return TargetRefused(message, subject=subject)

    def _throttled(self, after: str, message: str, *, subject: str) -> Throttled | Passing:
        """Return the error; with a time in seconds that is too long to wait here, one that says until when."""
        seconds = min(int(after), _MOST_RETRY_AFTER) if after.isascii() and after.isdigit() and len(after) < 10 else 0
        if seconds <= _LONGEST_WAIT:
            return Passing(Throttled(message, subject=subject))
        return Throttled(message, subject=subject, retry=retry_at(self._clock.now() + timedelta(seconds=seconds)))

    def _say(self, action: str, reason: str) -> str:
        return f"Target {self._settings.name}: {action} failed: {reason}."

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds),
                connector=aiohttp.TCPConnector(ssl=self._context, limit=8),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,  # a small answer must not become a large one
                headers={"Accept-Encoding": "identity"},
            )
        return self._session


async def _read(stream: aiohttp.StreamReader) -> bytes:
    """Return the answer's content, or as much of it as shows that it is too large."""
    content = bytearray()
    async for piece in stream.iter_any():
        content += piece
        if len(content) > LARGEST_ANSWER:
            break
    return bytes(content)


def sign(body: bytes, *, timestamp: str, secret: str) -> str:
    """Return the value of `Certorbit-Signature`; an endpoint computes the same and compares."""
    return "sha256=" + hmac.digest(secret.encode(), timestamp.encode() + b"." + body, "sha256").hex()

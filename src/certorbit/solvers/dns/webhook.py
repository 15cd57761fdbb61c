"""An HTTP endpoint of the operator's own: one signed POST for each value.

The body is `{"action": "add"|"remove", "zone": …, "name": …, "value": …, "ttl": …}`. Two headers prove where it comes
from: `Certorbit-Timestamp` (seconds since 1970) and `Certorbit-Signature`, `sha256=` and the hex HMAC-SHA-256 of the
timestamp, a dot and the body. A 2xx answer says that the change is made; how two writers at one name get along is the
endpoint's business.
"""

import asyncio
import hmac
import json
from functools import partial
from typing import Final

import aiohttp

from certorbit.clock import Chance, Clock
from certorbit.net.tries import Passing
from certorbit.solver_settings import WebhookSolverSettings
from certorbit.solvers.dns.tries import call_again, failure

KIND: Final = "webhook"
SIGNATURE: Final = "Certorbit-Signature"
TIMESTAMP: Final = "Certorbit-Timestamp"
MOST_SHOWN: Final = 200  # characters of an endpoint's own words
_HINT: Final = "Look into the log of the endpoint that the solver's url names."
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class WebhookWriter:
    """Posts to one endpoint. Belongs to the event loop that it is first used in."""

    def __init__(self, settings: WebhookSolverSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None

    @property
    def kind(self) -> str:
        return KIND

    async def add_txt(self, name: str, value: str, *, zone: str) -> str:
        await self._post("add", name, value, zone=zone)
        return ""

    async def wait_applied(self, reference: str) -> None:
        """Return at once: the endpoint has answered."""

    async def remove_txt(self, name: str, value: str, *, zone: str) -> None:
        await self._post("remove", name, value, zone=zone)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _post(self, action: str, name: str, value: str, *, zone: str) -> None:
        message = {"action": action, "zone": zone, "name": name, "value": value, "ttl": self._settings.ttl}
        post = partial(self._post_once, json.dumps(message).encode(), zone=zone)
        await call_again(post, kind=KIND, name=name, clock=self._clock, chance=self._chance)

    async def _post_once(self, body: bytes, *, zone: str) -> None:
        timestamp = str(int(self._clock.now().timestamp()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: sign(body, timestamp=timestamp, secret=self._settings.secret.get_secret_value()),
        }
        try:
            # The timeout of the session doesn't bound what a slow endpoint writes into its answer.
            async with (
                asyncio.timeout(self._settings.timeout_seconds),
                self._open_session().post(
                    self._settings.url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                words = (await answer.content.read(MOST_SHOWN)).decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            reason = f"the endpoint doesn't answer: {type(error).__name__}"
            raise Passing(failure(KIND, reason, zone=zone, hint=_HINT)) from error
        if 200 <= answer.status < 300:
            return
        shown = "".join(character if character.isprintable() else " " for character in words).strip()
        refused = failure(KIND, f"the endpoint answers {answer.status} {shown!r}", zone=zone, hint=_HINT)
        raise Passing(refused) if answer.status in _RETRIED else refused

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._settings.timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


def sign(body: bytes, *, timestamp: str, secret: str) -> str:
    """Return the value of `Certorbit-Signature`; an endpoint computes the same and compares."""
    return "sha256=" + hmac.digest(secret.encode(), timestamp.encode() + b"." + body, "sha256").hex()

"""An endpoint for the webhook solver on loopback: checks every request as docs/dns-01.md tells, and keeps the values."""

import hmac
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Self

from aiohttp import web

SECRET = "a-shared-secret-of-the-tests"
MOST_AGE_SECONDS = 300


class WebhookEndpoint:
    """values: by TXT name. answers: statuses to answer with before anything is done, the first one next."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self.values: dict[str, set[str]] = {}
        self.answers: list[int] = []
        self.requests: list[dict[str, object]] = []
        self.url = ""
        self._now = now
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/dns", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/dns"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def _is_ours(self, timestamp: str, signature: str, body: bytes) -> bool:
        expected = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, sha256).hexdigest()
        fresh = abs(self._now() - int(timestamp)) <= MOST_AGE_SECONDS
        return fresh and hmac.compare_digest(f"sha256={expected}", signature)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not self._is_ours(request.headers["Certorbit-Timestamp"], request.headers["Certorbit-Signature"], body):
            return web.Response(status=401, text="bad signature")
        message = json.loads(body)
        self.requests.append(message)
        if self.answers:
            return web.Response(status=self.answers.pop(0), text="scripted\nanswer")
        act: dict[str, Callable[[str], None]] = {
            "add": self.values.setdefault(message["name"], set()).add,
            "remove": self.values.setdefault(message["name"], set()).discard,
        }
        act[message["action"]](message["value"])
        return web.Response(status=204)

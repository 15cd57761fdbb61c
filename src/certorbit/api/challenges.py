"""Answers HTTP-01 challenges (RFC 8555 §8.3) from the shared store, so that any node can give them."""

import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import orjson
import structlog
from fastapi import FastAPI, Path
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from certorbit.api.documentation import PUBLIC, Responses, errors_of
from certorbit.api.parts import Parts
from certorbit.api.routes import RouteAdder
from certorbit.errors import CertorbitError, NotFound

log = structlog.get_logger(__name__)

_PREFIX = "/.well-known/acme-challenge/"
PATH = _PREFIX + "{token}"
# While the database restarts the CA is kept waiting: it gives up after ten seconds or so, and a refusal would end the
# order, because CAs look once (facts.md: a failed challenge needs a new order).
_PATIENCE_SECONDS = (0.5, 1.0, 2.0)
_REMEMBERED = timedelta(seconds=5)
_MOST_REMEMBERED = 1000
_TOKEN = re.compile("[A-Za-z0-9_-]{1,256}")  # RFC 8555 §8.1: base64url without padding; CAs use 22 to 43 characters


@dataclass(frozen=True, slots=True)
class ChallengeRoutes:
    """The endpoint."""

    parts: Parts

    async def get_challenge(self, token: Annotated[str, Path(description="The challenge's token")]) -> Response:
        """Answer an HTTP-01 challenge"""
        challenge = None
        if _TOKEN.fullmatch(token):
            challenge = await self.parts.store.read(lambda tx: tx.challenges.find(token))
        if challenge is None:
            raise NotFound("There is no challenge with this token here.", subject="token")
        return Response(challenge.key_authorization, media_type="application/octet-stream")


def add_challenge_routes(app: FastAPI, parts: Parts) -> None:
    """Add the path that CAs look at."""
    content = {"application/octet-stream": {"schema": {"type": "string"}}}
    shown: Responses = {200: {"description": "The key authorization", "content": content}, **errors_of(404, 500, 503)}
    RouteAdder(app, "Challenges").add("GET", PATH, ChallengeRoutes(parts).get_challenge, shown, access=PUBLIC)


class ChallengeApp:
    """Answers challenges and nothing else, for the listener of `HTTP01_LISTEN`.

    Plain ASGI: a CA looks from several places at once for every name, so this is the request that comes most often
    while certificates are issued, and it needs none of what stands around the API.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._answered: OrderedDict[str, tuple[datetime, bytes]] = OrderedDict()
        self._requests = parts.metrics.counter(
            "certorbit_challenge_requests_total", meaning="Answered HTTP-01 look-ups.", labels=("status",)
        )

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, body = await self._answer(scope["method"], scope["path"])
        self._requests.add(str(status))
        log.info("challenge.answered", status=status, method=scope["method"] if status != 405 else "OTHER")
        headers = [
            (b"content-type", b"application/octet-stream" if status == 200 else b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, method: str, path: str) -> tuple[int, bytes]:
        if method not in {"GET", "HEAD"}:
            return 405, _render_error(405, "This listener answers HTTP-01 look-ups (GET) alone.")
        token = path.removeprefix(_PREFIX).removesuffix("/")
        if not path.startswith(_PREFIX) or not _TOKEN.fullmatch(token):
            return 404, _render_error(404, "There is nothing at this path.")
        now = self._parts.clock.now()
        asked_at, answer = self._answered.get(token, (now, b""))
        if answer and timedelta(0) <= now - asked_at < _REMEMBERED:
            return 200, answer
        for pause in (*_PATIENCE_SECONDS, None):
            try:
                challenge = await self._parts.store.read(lambda tx: tx.challenges.find(token))
            except CertorbitError as error:
                log.warning("challenge.failed", error=type(error).__name__, message=error.message)
                if pause is not None:
                    await self._parts.clock.sleep(pause)
                continue
            if challenge is None:
                return 404, _render_error(404, "There is no challenge with this token here.")
            return 200, self._remember(token, challenge.key_authorization.encode(), now=now)
        return 503, _render_error(503, "The store does not answer; try again.")

    def _remember(self, token: str, answer: bytes, *, now: datetime) -> bytes:
        """Keep an answer for a moment: a CA looks from several places at once. A token's answer never changes."""
        self._answered[token] = now, answer
        if len(self._answered) > _MOST_REMEMBERED:
            self._answered.popitem(last=False)
        return answer


def _render_error(status: int, message: str) -> bytes:
    """Return the contract's error body."""
    return orjson.dumps({"code": status, "message": message})


def make_challenge_app(parts: Parts) -> ASGIApp:
    """Return the application for the listener of `HTTP01_LISTEN`."""
    return ChallengeApp(parts)

"""Who calls: the API key in the Authorization header, checked before anything else of a request is read."""

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from certorbit.clock import Clock
from certorbit.errors import NotSignedIn
from certorbit.model.access import APIKeyID, Principal, Right
from certorbit.ports.store import Store
from certorbit.services import api_keys

ROOT_PEM_PATH = "/api/certorbit/v1/issuers/internal/root.pem"  # a root has to be fetched before it is trusted
_KEPT = timedelta(seconds=2)  # a key revoked in another process works at most this much longer
_MOST_KEPT = 1024  # keys in the cache; only known keys get in, so strangers can't fill it
_HEADER = re.compile(rb"(?i:basic|bearer)[ \t]+([\x21-\x7e]{1,256})[ \t]*")
_HOW = "Send `Authorization: Basic <api key>`, the key as it stands, or `Authorization: Bearer <api key>`."


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    since: datetime


class KnownKeys:
    """Looks keys up in the store and remembers who they are for two seconds, by their digest."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._revocations = 0

    async def authenticate(self, secret: str) -> Principal:
        """Return who holds the key.

        Raises:
            NotSignedIn: it is unknown or revoked. Unreachable: the database did not answer.
        """
        digest = api_keys.digest_secret(secret)
        now = self._clock.now()
        known = self._known.get(digest)
        if known is not None and timedelta(0) <= now - known.since <= _KEPT:
            return known.principal
        revocations = self._revocations
        principal = await self._store.read(lambda tx: api_keys.authenticate(tx, secret))
        if revocations == self._revocations:  # else what was read may be older than a revocation
            self._known[digest] = _Known(principal, now)
            self._known.move_to_end(digest)
            if len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        return principal

    def forget(self, key_id: APIKeyID) -> None:
        """Forget a key that was just revoked."""
        self._revocations += 1
        for digest in [d for d, known in self._known.items() if known.principal.key_id == key_id]:
            del self._known[digest]


class Authenticate:
    """Lets a request for a path that needs a key pass only with a known one, and notes who it is."""

    def __init__(self, app: ASGIApp, *, known_keys: KnownKeys) -> None:
        self.app = app
        self._known_keys = known_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and needs_key(scope["method"], scope["path"]):
            scope["state"]["principal"] = await self._known_keys.authenticate(read_secret(scope["headers"]))
        await self.app(scope, receive, send)


def needs_key(method: str, path: str) -> bool:
    """Return whether the request needs a key. What isn't under `/api` and needs none holds no secret."""
    if path == ROOT_PEM_PATH and method == "GET":
        return False
    return path in {"/api", "/metrics"} or path.startswith("/api/")


def read_secret(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the key of the Authorization header.

    Raises:
        NotSignedIn: there is none, more than one, or it is of another form. The header is never quoted.
    """
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if not values:
        raise NotSignedIn(f"The request has no API key. {_HOW}", subject="authorization")
    found = _HEADER.fullmatch(values[0].strip())
    if len(values) > 1 or found is None:
        raise NotSignedIn(f"The Authorization header is not of a form that is known here. {_HOW}")
    return found[1].decode("ascii")


def need(right: Right) -> Callable[[Request], Awaitable[Principal]]:
    """Return the dependency that gives an endpoint its caller, and refuses one without the right.

    It stands on its own: a route that the middleware was not asked about refuses everybody.
    """

    async def check(request: Request) -> Principal:
        principal = request.scope["state"].get("principal")
        if not isinstance(principal, Principal):
            raise NotSignedIn(f"The request has no API key. {_HOW}", subject="authorization")
        principal.check(right)
        return principal

    return check


Reader = Annotated[Principal, Depends(need(Right.READ))]
Writer = Annotated[Principal, Depends(need(Right.WRITE))]
Administrator = Annotated[Principal, Depends(need(Right.ADMINISTER))]

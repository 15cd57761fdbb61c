"""Who calls: the API key in the Authorization header, else a person's session cookie, checked before anything else."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from certorbit.api.known_keys import KnownKeys, reason_of
from certorbit.api.known_sessions import KnownSessions
from certorbit.api.refused_attempts import RefusedAttempts
from certorbit.errors import NotAllowed, NotSignedIn, TooManyFailures
from certorbit.model.access import Principal, Right
from certorbit.model.addresses import find_client, read_networks
from certorbit.model.audit import actor_of
from certorbit.ports.audit import acting_as, set_route

ROOT_PEM_PATH = "/api/certorbit/v1/issuers/internal/root.pem"  # a root has to be fetched before it is trusted
_HEADER = re.compile(rb"(?i:basic|bearer)[ \t]+([\x21-\x7e]{1,256})[ \t]*")
_HOW = "Send `Authorization: Basic <api key>`, the key as it stands, or `Authorization: Bearer <api key>`."


class Reach(Enum):
    """What a key for some configurations only may reach by a route."""

    PATH = "path"  # the configuration in the path; a path without one concerns all, so such a key is refused
    OWN = "own"  # the endpoint itself keeps to the caller's configurations, or concerns none
    EVERYWHERE = "everywhere"  # all are concerned, though the path names one


class Authenticate:
    """Lets a request for a path that needs a key pass only with a known one, and notes who it is and from where.

    What the request writes is then its caller's doing (ports/audit.py).

    known_sessions: None: nobody signs in here. trusted_proxies: the networks whose X-Forwarded-For is believed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        known_keys: KnownKeys,
        refused: RefusedAttempts,
        known_sessions: KnownSessions | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self.app = app
        self._known_keys = known_keys
        self._known_sessions = known_sessions
        self._refused = refused
        self._trusted = read_networks(trusted_proxies, subject="access.trusted_proxies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            address = self._address_of(scope)
            scope["state"]["address"] = address
            if needs_key(scope["method"], scope["path"]):
                principal = await self._authenticate(scope, address)
                scope["state"]["principal"] = principal
                request_id = str(scope["state"].get("request_id", ""))
                with acting_as(actor_of(principal, method=scope["method"], route="", request_id=request_id)):
                    await self.app(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _authenticate(self, scope: Scope, address: str) -> Principal:
        try:
            return await self._find_caller(scope, address)
        except (NotSignedIn, NotAllowed, TooManyFailures) as error:
            self._refused.note_failure(reason=reason_of(error), address=address)
            raise

    async def _find_caller(self, scope: Scope, address: str) -> Principal:
        sessions = self._known_sessions
        if sessions is not None and (secret := sessions.find_secret(scope)) is not None:
            sessions.check_origin(scope)
            session = await sessions.authenticate(secret, address=address)
            scope["state"]["session"] = session
            return session.principal(address)
        has_header = any(name == b"authorization" for name, _ in scope["headers"])
        if scope["path"].startswith("/auth/") and not has_header:
            raise NotSignedIn("You are not signed in; open /auth/login, or send an API key.", subject="session")
        return await self._known_keys.authenticate(read_secret(scope["headers"]), address=address)

    def _address_of(self, scope: Scope) -> str:
        client = scope.get("client")
        peer = str(client[0]) if client else ""
        if not self._trusted and ":" not in peer:  # an IPv4 address as it should be written
            return peer
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return find_client(peer, forwarded, trusted=self._trusted)


def needs_key(method: str, path: str) -> bool:
    """Return whether the request needs a key. What isn't under `/api` and needs none holds no secret."""
    if path == ROOT_PEM_PATH and method == "GET":
        return False
    return path in {"/api", "/metrics", "/auth/me", "/auth/logout"} or path.startswith("/api/")


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


@dataclass(frozen=True, slots=True)
class Need:
    """The dependency that gives an endpoint its caller, and refuses one who may not.

    It stands on its own: a route that the middleware was not asked about refuses everybody, and one that says nothing
    of its reach refuses keys for some configurations only, unless its path names one of them.
    """

    right: Right
    reach: Reach = Reach.PATH

    async def __call__(self, request: Request) -> Principal:
        principal = request.scope["state"].get("principal")
        if not isinstance(principal, Principal):
            raise NotSignedIn(f"The request has no API key. {_HOW}", subject="authorization")
        set_route(getattr(request.scope.get("route"), "path", ""))
        principal.check(self.right)
        config = request.path_params.get("config")
        if self.reach is Reach.EVERYWHERE or (config is None and self.reach is Reach.PATH):
            principal.check_unlimited()
        elif config is not None:
            principal.check_configuration(config)
        return principal


CertificateReader = Annotated[Principal, Depends(Need(Right.READ_CERTIFICATES))]
Reader = Annotated[Principal, Depends(Need(Right.READ))]
ReaderOfOwn = Annotated[Principal, Depends(Need(Right.READ, Reach.OWN))]
Writer = Annotated[Principal, Depends(Need(Right.WRITE))]
WriterOfOwn = Annotated[Principal, Depends(Need(Right.WRITE, Reach.OWN))]
WriterEverywhere = Annotated[Principal, Depends(Need(Right.WRITE, Reach.EVERYWHERE))]
Auditor = Annotated[Principal, Depends(Need(Right.AUDIT))]
Administrator = Annotated[Principal, Depends(Need(Right.ADMINISTER))]

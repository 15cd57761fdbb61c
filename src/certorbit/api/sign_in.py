"""People sign in by an OpenID Connect provider, and out again (docs/sign-in.md)."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

import structlog
from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, format_optional
from certorbit.api.authentication import Need, Reach
from certorbit.api.documentation import PUBLIC, Responses, answers_json, errors_of
from certorbit.api.errors import answer_error, reference_of
from certorbit.api.failed_attempts import FailedAttempts
from certorbit.api.known_sessions import Cookies, KnownSessions, origin_of
from certorbit.api.parts import Parts
from certorbit.api.reading import Flag
from certorbit.api.refused_attempts import RefusedAttempts
from certorbit.api.routes import RouteAdder
from certorbit.errors import BadInput, CertorbitError, NotAllowed, NotFound
from certorbit.model import sign_in
from certorbit.model.access import Principal, Right
from certorbit.model.audit import Actor, actor_of
from certorbit.model.session import Person, Session, SignInRules, admit, rules_from
from certorbit.model.sign_in import Attempt
from certorbit.ports.audit import acting_as
from certorbit.ports.identity import IdentityProvider
from certorbit.ports.store import UnitOfWork
from certorbit.services import sessions

log = structlog.get_logger(__name__)

LOGIN_PATH: Final = "/auth/login"
CALLBACK_PATH: Final = "/auth/callback"
LOGOUT_PATH: Final = "/auth/logout"
ME_PATH: Final = "/auth/me"
_LONGEST_CODE: Final = 4096
_MOST_QUERY: Final = 16_384  # characters
# RFC 6749 §4.1.2.1 and OpenID Connect Core 1.0 §3.1.2.6; another word is not repeated
_ERRORS: Final[Mapping[str, str]] = {
    "access_denied": "it was declined",
    "login_required": "it wants a sign-in at the provider first",
    "interaction_required": "it wants something of you that it could not ask",
    "consent_required": "it wants your consent",
    "temporarily_unavailable": "it has no time now",
    "server_error": "it failed itself",
    "invalid_scope": "it doesn't know one of [oidc] scopes",
    "unauthorized_client": "this service is not registered there for this",
    "invalid_request": "it found the request malformed; is the callback registered there?",
}
# Every role has this right: whoever is known may ask who he is, and leave.
AnyCaller = Annotated[Principal, Depends(Need(Right.READ_CERTIFICATES, Reach.OWN))]


class MeBody(BaseModel):
    """The caller. kind: `person` or `api-key`. configurations: empty: all. expires_at: of a session."""

    kind: str
    name: str
    role: str
    rights: list[str]
    configurations: list[str]
    expires_at: str | None


@dataclass(frozen=True, slots=True)
class SignIn:
    """What signing in needs. default_path: where one gets to without `next`."""

    provider: IdentityProvider
    rules: SignInRules
    cookies: Cookies
    known: KnownSessions
    attempts: FailedAttempts
    default_path: str


def make_sign_in(parts: Parts) -> SignIn | None:
    """Return what signing in needs; None: nobody signs in here."""
    if parts.identity is None:
        return None
    rules, cookies = rules_from(parts.settings.oidc), Cookies(origin_of(parts.settings.public_url))
    per_minute = parts.settings.access.failures_per_minute
    known = KnownSessions(
        store=parts.store, clock=parts.clock, rules=rules, cookies=cookies, failures_per_minute=per_minute
    )
    return SignIn(
        provider=parts.identity,
        rules=rules,
        cookies=cookies,
        known=known,
        attempts=FailedAttempts(per_minute=per_minute),
        default_path=f"{urlsplit(parts.settings.public_url).path.rstrip('/')}/docs",
    )


@dataclass(frozen=True, slots=True)
class SignInRoutes:
    """The endpoints."""

    parts: Parts
    sign_in: SignIn | None
    refused: RefusedAttempts

    async def begin_sign_in(
        self,
        next: Annotated[str | None, Query(description="Where to go afterwards: a path of this service")] = None,  # noqa: A002 - what browsers send
    ) -> Response:
        """Send the browser to the identity provider"""
        ours = self._get_sign_in()
        goes_to = ours.default_path if next is None else next
        attempt = sign_in.begin(secrets.token_urlsafe(32), goes_to=goes_to, now=self.parts.clock.now())
        answer = _redirect(await ours.provider.authorization_url(attempt))
        seconds = int(sign_in.MOST_TIME.total_seconds())
        answer.headers.append("set-cookie", ours.cookies.set(ours.cookies.sign_in, attempt.cookie(), seconds=seconds))
        return answer

    async def end_sign_in(self, request: Request) -> Response:
        """Take the browser back from the identity provider: it gets a session, and goes on to `next`"""
        ours = self._get_sign_in()
        query, attempt = self._read_answer(request, ours)
        # From here on the sign-in is used, whatever comes of it: its cookie goes.
        try:
            answer = await self._redeem(request, ours, query, attempt)
        except CertorbitError as error:
            log.warning("sign_in.failed", error=type(error).__name__, subject=error.subject, problem=error.message)
            answer = answer_error(error, reference=reference_of(request.scope))
        answer.headers.append("set-cookie", ours.cookies.clear(ours.cookies.sign_in))
        return answer

    async def sign_out(
        self,
        request: Request,
        caller: AnyCaller,
        *,
        everywhere: Annotated[Flag, Query(description="End all of one's sessions, in other browsers too")] = False,
    ) -> Response:
        """End one's session, or all of them"""
        ours = self._get_sign_in()
        session = request.scope["state"].get("session")
        if not caller.is_person or not isinstance(session, Session):
            raise BadInput("An API key has no session to end; it is revoked by an administrator.", subject="session")
        now = self.parts.clock.now()

        def end(tx: UnitOfWork) -> None:
            sessions.end_session(tx, session, now=now)
            if everywhere:
                sessions.end_all_of(tx, session.subject, now=now)

        await self.parts.store.write(end)
        answer = Response(status_code=204)
        answer.headers.append("set-cookie", ours.cookies.clear(ours.cookies.session))
        return answer

    async def get_me(self, request: Request, caller: AnyCaller) -> Response:
        """Say who calls: name, role, rights, configurations"""
        session = request.scope["state"].get("session")
        return JSONAnswer(
            {
                "kind": "person" if caller.is_person else "api-key",
                "name": caller.name,
                "role": caller.role.value,
                "rights": [right.value for right in Right if caller.has(right)],
                "configurations": sorted(caller.configurations),
                "expires_at": format_optional(session.expires_at if isinstance(session, Session) else None),
            }
        )

    def _get_sign_in(self) -> SignIn:
        if self.sign_in is None:
            raise NotFound("Nobody signs in here: the settings have no [oidc]. Use an API key.")
        return self.sign_in

    def _read_answer(self, request: Request, ours: SignIn) -> tuple[dict[str, str], Attempt]:
        """Return the provider's answer and the sign-in that it is for. Raises BadInput: there is no such one."""
        query = _read_query(request.scope["query_string"])
        text = ours.cookies.read(request.scope["headers"], ours.cookies.sign_in)
        attempt = sign_in.read_cookie(text or "", now=self.parts.clock.now())
        if attempt is None:
            raise BadInput(
                "No sign-in was begun in this browser within the last ten minutes; begin at /auth/login.",
                subject="state",
            )
        # RFC 6749 §10.12: else somebody could sign a browser in as himself, or have his code redeemed here.
        if not hmac.compare_digest(query.get("state", "").encode(), attempt.state.encode()):
            raise BadInput(
                "The answer is of another sign-in than the one that this browser began last; begin again at"
                " /auth/login.",
                subject="state",
            )
        return query, attempt

    async def _redeem(self, request: Request, ours: SignIn, query: dict[str, str], attempt: Attempt) -> Response:
        address = request.scope["state"].get("address", "")
        now = self.parts.clock.now()
        ours.attempts.check_address(address, now=now)
        try:
            person = await self._ask_provider(ours, query, attempt)
        except (BadInput, NotAllowed) as error:
            ours.attempts.note(address, "", now=now)
            self.refused.note_failure(reason=f"sign-in: {error.subject}", address=address)
            raise
        return await self._start(request, ours, person, attempt)

    async def _ask_provider(self, ours: SignIn, query: dict[str, str], attempt: Attempt) -> Person:
        if "error" in query:
            why = _ERRORS.get(query["error"], "it gave a reason that is not known here")
            raise NotAllowed(f"The identity provider did not sign you in: {why}.", subject="error")
        code = query.get("code", "")
        if not 0 < len(code) <= _LONGEST_CODE or not code.isascii() or not code.isprintable():
            raise BadInput("The identity provider's answer has no code; begin again at /auth/login.", subject="code")
        return admit(ours.rules, await ours.provider.redeem(code, attempt=attempt, issuer=query.get("iss")))

    async def _start(self, request: Request, ours: SignIn, person: Person, attempt: Attempt) -> Response:
        now, secret = self.parts.clock.now(), secrets.token_urlsafe(32)
        # Always a new secret: one that the browser had before is worth nothing afterwards (session fixation).
        session = sessions.make_session(
            person, secret=secret, state=attempt.state, rules=ours.rules, now=now, new_id=self.parts.new_id
        )
        had = ours.cookies.read(request.scope["headers"], ours.cookies.session)
        before = sessions.digest_secret(had) if had else None
        with acting_as(self._actor(request, session)):
            await self.parts.store.write(
                lambda tx: sessions.start_session(tx, session, issuer=ours.rules.issuer, before=before, now=now)
            )
        log.info("sign_in.done", name=session.name, role=session.role.value)
        answer = _redirect(attempt.goes_to)
        seconds = int(ours.rules.lifetime.total_seconds())
        answer.headers.append("set-cookie", ours.cookies.set(ours.cookies.session, secret, seconds=seconds))
        return answer

    def _actor(self, request: Request, session: Session) -> Actor:
        principal = session.principal(request.scope["state"].get("address", ""))
        return actor_of(principal, method="GET", route=CALLBACK_PATH, request_id=reference_of(request.scope))


def add_sign_in_routes(app: FastAPI, parts: Parts, *, sign_in: SignIn | None, refused: RefusedAttempts) -> None:
    """Add signing in; without [oidc] the routes say that there is none."""
    routes = SignInRoutes(parts, sign_in, refused)
    goes: Responses = {303: {"description": "The browser goes on"}}
    ended = answers_json("Signed out", None, 400, 404, 422, status=204)
    shown = answers_json("The caller", MeBody)
    add = RouteAdder(app, "Sign-in").add
    add("GET", LOGIN_PATH, routes.begin_sign_in, {**goes, **errors_of(400, 404, 422, 503)}, status=303, access=PUBLIC)
    add("GET", CALLBACK_PATH, routes.end_sign_in, {**goes, **errors_of(400, 404, 429, 503)}, status=303, access=PUBLIC)
    add("POST", LOGOUT_PATH, routes.sign_out, ended, status=204)
    add("GET", ME_PATH, routes.get_me, shown)


def _redirect(url: str) -> Response:
    return Response(status_code=303, headers={"location": url})


def _read_query(raw: bytes) -> dict[str, str]:
    """Return the parameters. Raises BadInput: one comes twice (RFC 6749 §3.1), or there are too many."""
    try:
        found = parse_qs(raw[:_MOST_QUERY].decode("ascii"), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError as error:
        raise BadInput("The query can't be read.", subject="query") from error
    if any(len(values) > 1 for values in found.values()):
        raise BadInput("A parameter of the query comes twice.", subject="query")
    return {name: values[0] for name, values in found.items()}

"""From errors to answers: the one table from kind to HTTP status, and the last catch of everything else."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from certorbit.api.answers import JSONAnswer
from certorbit.errors import CertorbitError, IssuanceFailed, Kind, TooManyFailures
from certorbit.observe.logs import HIDDEN, hide_in_text

log = structlog.get_logger(__name__)

STATUS: Mapping[Kind, int] = MappingProxyType(
    {
        Kind.BAD_INPUT: 400,
        Kind.NOT_SIGNED_IN: 401,
        Kind.NOT_ALLOWED: 403,
        Kind.READ_ONLY: 403,
        Kind.NOT_FOUND: 404,
        Kind.CONFLICT: 409,
        Kind.TOO_LARGE: 413,
        Kind.TOO_MANY: 429,
        Kind.BROKEN: 500,
        Kind.BUSY: 503,
        Kind.OUTSIDE: 503,  # what a request itself needs from outside is the database
    }
)
MOST_FAULTS = 20  # of a request that are shown; whoever repairs these sees the others next time
RETRY_AFTER_SECONDS = 2  # a publish, a lost race and a database fail-over are all over within seconds
_CHALLENGE = {"www-authenticate": 'Basic realm="certorbit"'}
_CHALLENGE_PERSON = {"www-authenticate": 'Bearer realm="certorbit"'}  # for Basic browsers would ask for a password
# Lines of a key, without those that mark it. Digests and host names have letters of one case only.
_BASE64 = re.compile(r"(?=[a-z0-9+/]*[A-Z])(?=[A-Z0-9+/]*[a-z])[A-Za-z0-9+/]{40,}")
_FIELD_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")  # ours are; keys of any sort are longer
_WORDS = {404: "There is nothing at this path.", 405: "This path does not take that method; see the Allow header."}


def answer_error(error: CertorbitError, *, reference: str) -> Response:
    """Return the error as the client sees it (contract.md, Errors). reference: the request's id in the logs."""
    status = STATUS[error.kind]
    message = error.message if not error.hint else f"{error.message} {error.hint}"
    # A CA's own words hold tokens of its challenges, and nothing that a client sent but names.
    message = hide_in_text(message) if isinstance(error, IssuanceFailed) else _hide_keys(message)
    if error.kind is Kind.BROKEN:
        return answer_crash(reference=reference)
    if error.kind is Kind.READ_ONLY:
        return JSONAnswer({"message": message}, status_code=status)
    if status == 503:
        body = {"code": status, "message": message, "detail": message, "data": {"message": message}}
        return JSONAnswer(body, status_code=status, headers={"retry-after": str(RETRY_AFTER_SECONDS)})
    headers = None
    if error.kind is Kind.NOT_SIGNED_IN:
        headers = _CHALLENGE_PERSON if error.subject == "session" else _CHALLENGE
    if isinstance(error, TooManyFailures):
        headers = {"retry-after": str(error.seconds)}
    return JSONAnswer({"code": status, "message": message}, status_code=status, headers=headers)


def answer_crash(*, reference: str) -> Response:
    """Return the answer to a defect of ours: nothing of its text, only where the operator finds it."""
    message = f"The service failed at this request; its log has the cause under the reference {reference}."
    return JSONAnswer({"code": 500, "message": message}, status_code=500)


def register_error_handlers(app: FastAPI) -> None:
    """Give the framework's own errors our shapes. Ours pass through to `Guard`."""

    async def answer_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed_methods(app, request.scope))
        message = _WORDS.get(error.status_code, error.detail)
        return JSONAnswer(
            {"code": error.status_code, "message": message}, status_code=error.status_code, headers=headers
        )

    async def answer_validation(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return JSONAnswer({"detail": _show_faults(error.errors())}, status_code=422)

    app.add_exception_handler(HTTPException, answer_framework)
    app.add_exception_handler(RequestValidationError, answer_validation)


class Guard:
    """Turns whatever leaves the application into an answer; what nobody expected is logged and never shown."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note_start)
        except ClientDisconnect:
            log.info("http.client_gone")
        except Exception as error:
            answer = _answer_exception(error, reference=reference_of(scope))
            if started:  # half an answer can't be taken back: the server closes the connection
                raise
            await answer(scope, receive, send)


def reference_of(scope: Scope) -> str:
    """Return the request's id."""
    return str(scope.get("state", {}).get("request_id", "unknown"))


def _answer_exception(error: Exception, *, reference: str) -> Response:
    if not isinstance(error, CertorbitError):
        log.error("http.crashed", reference=reference, exc_info=error)
        return answer_crash(reference=reference)
    if error.kind is Kind.BROKEN:
        log.error("http.broken", reference=reference, exc_info=error)
    elif STATUS[error.kind] == 503:
        log.warning("http.unavailable", error=type(error).__name__, problem=error.message, subject=error.subject)
    return answer_error(error, reference=reference)


def _show_faults(items: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return the first faults, and how many more there are."""
    shown = [_without_input(item) for item in items[:MOST_FAULTS]]
    if len(items) > MOST_FAULTS:
        shown.append({"loc": [], "msg": f"and {len(items) - MOST_FAULTS} more", "type": "more_errors"})
    return shown


def _without_input(item: Mapping[str, object]) -> dict[str, object]:
    """Return the three fields of the contract. The others may quote the input, and that may be a private key."""
    loc = item.get("loc", ())
    return {
        "loc": [_show_place(part) for part in loc] if isinstance(loc, tuple | list) else [],
        "msg": _hide_keys(str(item.get("msg", ""))),
        "type": str(item.get("type", "")),
    }


def _hide_keys(message: str) -> str:
    """Return the message without what may be a key: it may quote a request that has one in the wrong field."""
    return _BASE64.sub(HIDDEN, hide_in_text(message))


def _show_place(part: object) -> str | int:
    """Return a part of `loc`. The name of a field that nobody knows is the client's text: shown if it may be a name."""
    if isinstance(part, int):
        return part
    return str(part) if _FIELD_NAME.fullmatch(str(part)) else HIDDEN


def _allowed_methods(app: FastAPI, scope: Scope) -> list[str]:
    """Return the methods of all routes at this path; the framework looks at the first one only (RFC 9110 §15.5.6)."""
    methods: set[str] = set()
    for route in app.routes:
        match, _ = route.matches(scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)

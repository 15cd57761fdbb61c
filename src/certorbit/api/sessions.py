"""Who is signed in, and the end of it: sessions of people, for administrators; auditors see the list."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, format_instant
from certorbit.api.authentication import Administrator, Auditor
from certorbit.api.documentation import answers_json
from certorbit.api.parts import Parts
from certorbit.api.reading import IDPath
from certorbit.api.routes import RouteAdder
from certorbit.model.access import Role
from certorbit.model.session import SessionID, SignInRules, rules_from
from certorbit.services import sessions
from certorbit.services.sessions import SignedIn

PATH: Final = "/api/certorbit/v1/sessions"
_SUBJECT: Final = Query(min_length=1, max_length=255, description="The identity provider's name for the person (`sub`)")


class SessionBody(BaseModel):
    """A session, never its cookie."""

    id: str
    subject: str = Field(description="The identity provider's name for the person (`sub`)")
    name: str = Field(description="What histories and the audit trail record")
    email: str = Field(description="Empty if the provider doesn't vouch for it")
    role: Role
    may_export_keys: bool
    configurations: list[str] = Field(description="Empty: all")
    created_at: str
    last_seen_at: str = Field(description="To the minute")
    expires_at: str = Field(description="It ends earlier if it isn't used ([oidc] idle_minutes)")
    address: str = Field(description="From where the person signed in; empty if the audit trail has it no more")


class SessionList(BaseModel):
    """Who is signed in, the newest first."""

    total: int
    items: list[SessionBody]
    next_cursor: str | None


class EndedBody(BaseModel):
    """How many sessions were ended; those with them that did not count any more."""

    ended: int


@dataclass(frozen=True, slots=True)
class SessionRoutes:
    """The endpoints."""

    parts: Parts
    rules: SignInRules

    async def list_sessions(self, _caller: Auditor, subject: Annotated[str | None, _SUBJECT] = None) -> Response:
        """Get the people who are signed in, or one person's sessions"""
        now = self.parts.clock.now()
        found = await self.parts.store.read(
            lambda tx: sessions.list_sessions(tx, rules=self.rules, subject=subject, now=now)
        )
        return JSONAnswer({"total": len(found), "items": [_render(one) for one in found], "next_cursor": None})

    async def end_session(self, session_id: IDPath, _caller: Administrator) -> Response:
        """End a session, at once and everywhere"""
        now = self.parts.clock.now()
        await self.parts.store.write(lambda tx: sessions.end_one(tx, SessionID(session_id), now=now))
        return Response(status_code=204)

    async def end_sessions_of(self, _caller: Administrator, subject: Annotated[str, _SUBJECT]) -> Response:
        """End all sessions of one person, at once and everywhere. Repeating it is harmless

        Put the person out at the identity provider first: it decides who may sign in again.
        """
        now = self.parts.clock.now()
        ended = await self.parts.store.write(lambda tx: sessions.end_all_of(tx, subject, now=now))
        return JSONAnswer({"ended": ended})


def add_session_routes(app: FastAPI, parts: Parts) -> None:
    """Add people's sessions to the native API; without [oidc] there are none."""
    routes = SessionRoutes(parts, rules_from(parts.settings.oidc))
    ended = answers_json("Ended", None, 400, 404, 422, status=204)
    add = RouteAdder(app, "Sign-in").add
    add("GET", PATH, routes.list_sessions, answers_json("The sessions", SessionList, 422))
    add("DELETE", PATH, routes.end_sessions_of, answers_json("Ended", EndedBody, 400, 422))
    add("DELETE", f"{PATH}/{{session_id}}", routes.end_session, ended, status=204)


def _render(found: SignedIn) -> dict[str, Any]:
    session = found.session
    return {
        "id": session.id,
        "subject": session.subject,
        "name": session.name,
        "email": session.email,
        "role": session.role.value,
        "may_export_keys": session.may_export_keys,
        "configurations": session.configurations,
        "created_at": format_instant(session.created_at),
        "last_seen_at": format_instant(session.last_seen_at),
        "expires_at": format_instant(session.expires_at),
        "address": found.address,
    }

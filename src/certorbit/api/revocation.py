"""What is known of a certificate's revocation: the verdict, how old it is, and what it rests on."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, format_optional
from certorbit.api.authentication import Reader
from certorbit.api.documentation import answers_json
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, EntryPath, read_config
from certorbit.api.routes import RouteAdder
from certorbit.model.crl import VerdictState
from certorbit.model.entry import EntryID, VersionID
from certorbit.services.verdicts import VersionVerdict, get_verdict

PATH = "/api/certorbit/v1/configs/{config}/certificates/{entry_id}/revocation"
_Version = Annotated[
    str | None, Query(pattern="^[A-Za-z0-9_-]{1,64}$", description="Which version; left out: the current one")
]


class VerdictBody(BaseModel):
    """What is known of a version's revocation (docs/revocation.md)."""

    version: str | None = Field(description="null: the certificate is not issued yet")
    serial: str | None = Field(description="Lower-case hex")
    verdict: VerdictState
    revoked: bool
    reason: str = Field(description="In the words of RFC 5280, for example `keyCompromise`; empty unless revoked")
    revoked_at: str | None
    checked_at: str | None = Field(description="When the lists were looked at; null: not yet")
    age_seconds: int | None = Field(description="Seconds since then")
    valid_until: str | None = Field(description="When the list that the verdict rests on ends")
    sources: list[str] = Field(description="The lists that it rests on")
    cdp: list[str] = Field(description="The lists that the certificate names")
    problems: list[str] = Field(description="Why it is unknown, or what else went wrong")


@dataclass(frozen=True, slots=True)
class RevocationRoutes:
    parts: Parts

    async def get_revocation(
        self, config: ConfigPath, entry_id: EntryPath, _caller: Reader, version: _Version = None
    ) -> Response:
        """Get whether a certificate is revoked, since when and why, and how that is known"""
        config_id, now = read_config(config), self.parts.clock.now()
        wanted = None if version is None else VersionID(version)
        found = await self.parts.store.read(lambda tx: get_verdict(tx, config_id, EntryID(entry_id), wanted, now=now))
        return JSONAnswer(_render(found, now=now))


def add_revocation_routes(app: FastAPI, parts: Parts) -> None:
    """Add the verdict on a certificate to the native API."""
    known = answers_json("What is known of its revocation", VerdictBody, 404, 422)
    RouteAdder(app, "Revocation").add("GET", PATH, RevocationRoutes(parts).get_revocation, known)


def _render(found: VersionVerdict, *, now: datetime) -> dict[str, Any]:
    version, verdict = found.version, found.verdict
    return {
        "version": version.id if version else None,
        "serial": version.facts.serial if version else None,
        "verdict": verdict.state.value,
        "revoked": verdict.is_revoked,
        "reason": verdict.reason,
        "revoked_at": format_optional(verdict.revoked_at),
        "checked_at": format_optional(verdict.checked_at),
        "age_seconds": int((now - verdict.checked_at).total_seconds()) if verdict.checked_at else None,
        "valid_until": format_optional(verdict.valid_until),
        "sources": verdict.sources,
        "cdp": version.facts.cdp if version else (),
        "problems": verdict.problems,
    }

"""The audit trail: for auditors and administrators of everything."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import AwareDatetime
from starlette.responses import Response, StreamingResponse

from certorbit.api import audit_schemas
from certorbit.api.answers import JSONAnswer
from certorbit.api.authentication import Auditor
from certorbit.api.documentation import answers_file, answers_json
from certorbit.api.parts import Parts
from certorbit.api.reading import LONGEST_CONFIG
from certorbit.api.routes import RouteAdder
from certorbit.errors import BadInput
from certorbit.model.audit import Action, AuditQuery, ChainPoint, canonical
from certorbit.services import audit

PATH = "/api/certorbit/v1/audit"
JSON_LINES = "application/x-ndjson"
_HIGHEST = 2**63 - 1
_Text = Annotated[str | None, Query(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=LONGEST_CONFIG)]


@dataclass(frozen=True, slots=True)
class AuditRoutes:
    """The endpoints."""

    parts: Parts

    async def list_audit_records(  # noqa: PLR0913 - the filters are parameters
        self,
        _caller: Auditor,
        *,
        limit: Annotated[int, Query(ge=1, le=audit.MOST_PER_PAGE)] = 100,
        cursor: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_=-]*$", max_length=100)] = None,
        config: _Text = None,
        who: Annotated[_Text, Query(description="An API key's id or name, `certorbit`, or a user's name")] = None,
        action: Annotated[Action | None, Query()] = None,
        object: Annotated[  # noqa: A002 - the parameter's name
            str | None, Query(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=2048, description="Id of what it was done to")
        ] = None,
        since: Annotated[AwareDatetime | None, Query(alias="from", description="This instant or later")] = None,
        until: Annotated[AwareDatetime | None, Query(alias="to", description="Before this instant")] = None,
    ) -> Response:
        """Get records of the audit trail, newest first, a page at a time"""
        query = AuditQuery(
            config=config, who=who, action=action, object=object, since=_storable(since), until=_storable(until)
        )
        items, next_cursor, total = await self.parts.store.read(
            lambda tx: audit.list_records(tx, query, cursor=cursor, limit=limit)
        )
        return JSONAnswer(
            {"total": total, "items": [record.document() for record in items], "next_cursor": next_cursor}
        )

    async def export_audit_records(
        self,
        _caller: Auditor,
        after: Annotated[int, Query(ge=0, le=_HIGHEST, description="Only records with a higher number")] = 0,
    ) -> Response:
        """Get the chain as JSON lines, in its order, to be kept and checked elsewhere"""
        state = await audit.read_state(self.parts.store)
        return StreamingResponse(self._lines(after, state.head.number), media_type=JSON_LINES)

    async def get_audit_head(self, _caller: Auditor) -> Response:
        """Get the chain's ends: the number and hash of its newest record, and where it begins"""
        state = await audit.read_state(self.parts.store)
        return JSONAnswer({"head": _render(state.head), "anchor": _render(state.anchor)})

    async def _lines(self, after: int, until: int) -> AsyncIterator[str]:
        async for page in audit.walk(self.parts.store, after=after, until=until):
            yield "".join(canonical(record.document()) + "\n" for record in page)


def add_audit_routes(app: FastAPI, parts: Parts) -> None:
    """Add the audit trail to the native API."""
    routes = AuditRoutes(parts)
    listed = answers_json("A page of records", audit_schemas.AuditList, 400, 422)
    exported = answers_file("One record a line", JSON_LINES, 422)
    head = answers_json("The chain's ends", audit_schemas.AuditHead)
    add = RouteAdder(app, "Audit").add
    add("GET", PATH, routes.list_audit_records, listed)
    add("GET", f"{PATH}/export", routes.export_audit_records, exported)
    add("GET", f"{PATH}/head", routes.get_audit_head, head)


def _storable(instant: datetime | None) -> datetime | None:
    """Return the instant in UTC. Raises BadInput: there is no such one."""
    try:
        return None if instant is None else instant.astimezone(UTC)
    except OverflowError:
        raise BadInput("from, to: the instant is out of range.", subject="from") from None


def _render(point: ChainPoint) -> dict[str, Any]:
    return {"number": point.number, "hash": point.hash}

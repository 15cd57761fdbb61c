"""Versions of a certificate: what was served when, what differs, and the way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from certorbit.api import renewal_schemas
from certorbit.api.answers import JSONAnswer, format_instant
from certorbit.api.authentication import Reader, Writer
from certorbit.api.documentation import answers_json, takes_body
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, EntryPath, IDPath, read_body, read_config
from certorbit.api.routes import RouteAdder
from certorbit.model.entry import Entry, EntryID, Version, VersionID
from certorbit.model.version_difference import Change
from certorbit.ports.store import UnitOfWork
from certorbit.services import versions

PREFIX = "/api/certorbit/v1/configs/{config}/certificates/{entry_id}/versions"


@dataclass(frozen=True, slots=True)
class VersionRoutes:
    """The endpoints."""

    parts: Parts

    async def list_versions(self, config: ConfigPath, entry_id: EntryPath, _caller: Reader) -> Response:
        """Get all versions of a certificate, the newest first"""
        config_id = read_config(config)
        now = self.parts.clock.now()

        def read(tx: UnitOfWork) -> tuple[Entry, Sequence[Version], frozenset[VersionID]]:
            entry, found = versions.list_versions(tx, config_id, EntryID(entry_id))
            return entry, found, versions.list_revoked(tx, found, now=now)

        entry, found, revoked = await self.parts.store.read(read)
        current = entry.current.id if entry.current else None
        items = [
            _render_version(version, is_current=version.id == current, is_revoked=version.id in revoked)
            for version in found
        ]
        return JSONAnswer({"total": len(items), "items": items, "next_cursor": None})

    async def compare_versions(
        self, config: ConfigPath, entry_id: EntryPath, before: IDPath, after: IDPath, _caller: Reader
    ) -> Response:
        """Get what differs between two versions"""
        config_id = read_config(config)
        difference = await self.parts.store.read(
            lambda tx: versions.compare(
                tx, config_id, EntryID(entry_id), before=VersionID(before), after=VersionID(after)
            )
        )
        return JSONAnswer(
            {
                "before": before,
                "after": after,
                "names_added": difference.names_added,
                "names_removed": difference.names_removed,
                "changes": [_render_change(change) for change in difference.changes],
            }
        )

    async def roll_back(
        self, config: ConfigPath, entry_id: EntryPath, version_id: IDPath, request: Request, caller: Writer
    ) -> Response:
        """Make a version the current one again; the automatic renewal is paused until it is resumed"""
        config_id, now = read_config(config), self.parts.clock.now()
        body = await read_body(request, renewal_schemas.RollbackRequest, optional=True)

        def roll_back(tx: UnitOfWork) -> tuple[Version, bool]:
            version = versions.roll_back(
                tx,
                config_id,
                EntryID(entry_id),
                VersionID(version_id),
                force=body.force,
                by=caller.name,
                now=now,
                new_id=self.parts.new_id,
            )
            return version, versions.is_revoked(tx, version, now=now)

        version, is_revoked = await self.parts.store.write(roll_back)
        message = (
            "The version is the current one again. The automatic renewal of this certificate is paused, so that it"
            " isn't replaced at once; resume it when that is what you want."
        )
        if is_revoked:
            message = f"The version is revoked, and clients that check revocation refuse it. {message}"
        return JSONAnswer(
            {"message": message, "version": _render_version(version, is_current=True, is_revoked=is_revoked)}
        )


def add_version_routes(app: FastAPI, parts: Parts) -> None:
    """Add the versions to the native API."""
    routes = VersionRoutes(parts)
    listed = answers_json("The versions", renewal_schemas.VersionList, 404, 422)
    compared = answers_json("What differs", renewal_schemas.ComparisonBody, 404, 422)
    current = answers_json("The now current version", renewal_schemas.RollbackBody, 400, 404, 413, 422)
    rolls_back = takes_body(renewal_schemas.RollbackRequest, required=False)
    add = RouteAdder(app, "Versions").add
    add("GET", PREFIX, routes.list_versions, listed)
    add("GET", f"{PREFIX}/{{before}}/compare/{{after}}", routes.compare_versions, compared)
    add("POST", f"{PREFIX}/{{version_id}}/rollback", routes.roll_back, current, body=rolls_back)


def _render_version(version: Version, *, is_current: bool, is_revoked: bool) -> dict[str, Any]:
    facts = version.facts
    return {
        "id": version.id,
        "created_at": format_instant(version.created_at),
        "source": version.source.value,
        "issuer": version.issuer_name,
        "issuer_subject": facts.issuer,
        "subject": facts.subject,
        "san": facts.san,
        "not_before": format_instant(facts.not_before),
        "not_after": format_instant(facts.not_after),
        "serial": facts.serial,
        "fingerprint": facts.fingerprint,
        "key_algorithm": facts.key_algorithm,
        "is_current": is_current,
        "revoked": is_revoked,
    }


def _render_change(change: Change) -> dict[str, str | int]:
    return {"field": change.field, "before": _plain(change.before), "after": _plain(change.after)}


def _plain(value: str | int | datetime) -> str | int:
    return format_instant(value) if isinstance(value, datetime) else value

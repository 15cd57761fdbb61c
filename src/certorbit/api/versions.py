"""Versions of a certificate: what was served when, what differs, and the way back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from certorbit.api import renewal_schemas
from certorbit.api.answers import JSONAnswer, format_instant
from certorbit.api.authentication import Reader, Writer
from certorbit.api.documentation import answers_json
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, EntryPath, IDPath, read_config
from certorbit.api.routes import RouteAdder
from certorbit.model.entry import EntryID, Version, VersionID
from certorbit.model.version_difference import Change
from certorbit.services import versions

PREFIX = "/api/certorbit/v1/configs/{config}/certificates/{entry_id}/versions"


@dataclass(frozen=True, slots=True)
class VersionRoutes:
    """The endpoints."""

    parts: Parts

    async def list_versions(self, config: ConfigPath, entry_id: EntryPath, _caller: Reader) -> Response:
        """Get all versions of a certificate, the newest first"""
        config_id = read_config(config)
        entry, found = await self.parts.store.read(lambda tx: versions.list_versions(tx, config_id, EntryID(entry_id)))
        current = entry.current.id if entry.current else None
        items = [_render_version(version, is_current=version.id == current) for version in found]
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

    async def roll_back(self, config: ConfigPath, entry_id: EntryPath, version_id: IDPath, caller: Writer) -> Response:
        """Make a version the current one again; the automatic renewal is paused until it is resumed"""
        config_id, now = read_config(config), self.parts.clock.now()
        version = await self.parts.store.write(
            lambda tx: versions.roll_back(
                tx,
                config_id,
                EntryID(entry_id),
                VersionID(version_id),
                by=caller.name,
                now=now,
                new_id=self.parts.new_id,
            )
        )
        message = (
            "The version is the current one again. The automatic renewal of this certificate is paused, so that it"
            " isn't replaced at once; resume it when that is what you want."
        )
        return JSONAnswer({"message": message, "version": _render_version(version, is_current=True)})


def add_version_routes(app: FastAPI, parts: Parts) -> None:
    """Add the versions to the native API."""
    routes = VersionRoutes(parts)
    listed = answers_json("The versions", renewal_schemas.VersionList, 404, 422)
    compared = answers_json("What differs", renewal_schemas.ComparisonBody, 404, 422)
    current = answers_json("The now current version", renewal_schemas.RollbackBody, 400, 404, 422)
    add = RouteAdder(app, "Versions").add
    add("GET", PREFIX, routes.list_versions, listed)
    add("GET", f"{PREFIX}/{{before}}/compare/{{after}}", routes.compare_versions, compared)
    add("POST", f"{PREFIX}/{{version_id}}/rollback", routes.roll_back, current)


def _render_version(version: Version, *, is_current: bool) -> dict[str, Any]:
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
    }


def _render_change(change: Change) -> dict[str, str | int]:
    return {"field": change.field, "before": _plain(change.before), "after": _plain(change.after)}


def _plain(value: str | int | datetime) -> str | int:
    return format_instant(value) if isinstance(value, datetime) else value

"""The versions of a configuration, the same in every dialect: what changed, when, by whom, and the way back."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, format_instant, message_answer
from certorbit.api.authentication import Reader, Writer
from certorbit.api.dialects import DIALECTS, Dialect
from certorbit.api.documentation import answers_json
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, read_config
from certorbit.api.routes import RouteAdder
from certorbit.api.schemas import MessageBody
from certorbit.api.site_schemas import ConfigurationVersionList, ConfigurationVersionWithChanges
from certorbit.model.change import Change, ConfigurationVersion
from certorbit.services import configuration_versions
from certorbit.services.reattaching import Bounds

HIGHEST = 2**31 - 1  # of a version's number
NumberPath = Annotated[int, Path(ge=1, le=HIGHEST, description="The version's number")]


@dataclass(frozen=True, slots=True)
class ConfigurationVersionRoutes:
    """The endpoints of one dialect."""

    parts: Parts
    dialect: Dialect

    async def list_configuration_versions(
        self,
        config: ConfigPath,
        _caller: Reader,
        limit: Annotated[int, Query(ge=1, le=configuration_versions.MOST_PER_PAGE)] = 100,
        before: Annotated[int | None, Query(ge=1, le=HIGHEST, description="Only versions before this one")] = None,
    ) -> Response:
        """Get the versions of a configuration, the newest first"""
        config_id = read_config(config)
        found, total = await self.parts.store.read(
            lambda tx: configuration_versions.list_versions(tx, config_id, before=before, limit=limit)
        )
        items = [
            {**_render(version), "changes": [_summarise(change) for change in version.changes]} for version in found
        ]
        return JSONAnswer({"total": total, "items": items})

    async def get_configuration_version(self, config: ConfigPath, number: NumberPath, _caller: Reader) -> Response:
        """Get what one version of a configuration changed, from what to what"""
        config_id = read_config(config)
        version = await self.parts.store.read(lambda tx: configuration_versions.get_version(tx, config_id, number))
        changes = [{**_summarise(change), "before": change.before, "after": change.after} for change in version.changes]
        return JSONAnswer({**_render(version), "changes": changes})

    async def revert_configuration(self, config: ConfigPath, number: NumberPath, caller: Writer) -> Response:
        """Make the configuration as it was after this version; that is a new version"""
        config_id, now = read_config(config), self.parts.clock.now()
        bounds = Bounds(by=caller.name, targets=self.parts.targets_of(config_id), reaches=caller.may_reach)
        await self.parts.store.write(
            lambda tx: configuration_versions.revert(
                tx, config_id, number, bounds=bounds, now=now, new_id=self.parts.new_id
            )
        )
        return message_answer(self.dialect.update_message)


def add_configuration_version_routes(app: FastAPI, parts: Parts) -> None:
    """Add the versions of configurations under every dialect's prefix."""
    for dialect in DIALECTS:
        _add_dialect(app, ConfigurationVersionRoutes(parts, dialect))


def _add_dialect(app: FastAPI, routes: ConfigurationVersionRoutes) -> None:
    dialect = routes.dialect
    updated = MessageBody if dialect.update_message else None
    listed = answers_json("The versions", ConfigurationVersionList, 404, 422)
    single = answers_json("The version", ConfigurationVersionWithChanges, 404, 422)
    reverted = answers_json("Configuration reverted", updated, 400, 404, 422)
    all_at = "/conf/configs/{config}/versions"
    one_at = f"{all_at}/{{number}}"
    add = RouteAdder(app, "Configurations", dialect).add
    add("GET", all_at, routes.list_configuration_versions, listed)
    add("GET", one_at, routes.get_configuration_version, single)
    add("PUT", f"{one_at}/revert", routes.revert_configuration, reverted)


def _render(version: ConfigurationVersion) -> dict[str, Any]:
    return {"version": str(version.number), "date": format_instant(version.at), "by": version.by}


def _summarise(change: Change) -> dict[str, str]:
    return {"kind": change.kind.value, "id": change.id, "action": change.word}

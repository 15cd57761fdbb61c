"""The operator's configurations, the same in every dialect."""

from dataclasses import dataclass

from fastapi import FastAPI
from starlette.responses import Response

from certorbit.api import schemas
from certorbit.api.answers import JSONAnswer, format_instant
from certorbit.api.authentication import Reader, ReaderOfOwn
from certorbit.api.dialects import DIALECTS
from certorbit.api.documentation import answers_json
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, read_config
from certorbit.api.routes import RouteAdder
from certorbit.model.entry import Configuration
from certorbit.services import configurations


@dataclass(frozen=True, slots=True)
class ConfigurationRoutes:
    """The endpoints."""

    parts: Parts

    async def list_configurations(self, caller: ReaderOfOwn) -> Response:
        """Get the list of the configurations that the caller may reach"""
        listed = await self.parts.store.read(configurations.list_configurations)
        found = [configuration for configuration in listed if caller.may_reach(configuration.id)]
        return JSONAnswer({"total": len(found), "items": [_render(configuration) for configuration in found]})

    async def get_configuration(self, config: ConfigPath, _caller: Reader) -> Response:
        """Get one configuration"""
        config_id = read_config(config)
        return JSONAnswer(
            _render(await self.parts.store.read(lambda tx: configurations.get_configuration(tx, config_id)))
        )


def add_configuration_routes(app: FastAPI, parts: Parts) -> None:
    """Add the configurations under every dialect's prefix."""
    routes = ConfigurationRoutes(parts)
    listed = answers_json("The configurations", schemas.ConfigurationList)
    single = answers_json("The configuration", schemas.Configuration, 404)
    for dialect in DIALECTS:
        add = RouteAdder(app, "Configurations", dialect).add
        add("GET", "/conf/configs", routes.list_configurations, listed)
        add("GET", "/conf/configs/{config}", routes.get_configuration, single)


def _render(configuration: Configuration) -> dict[str, str]:
    return {
        "id": configuration.id,
        "description": configuration.description,
        "version": str(configuration.version),
        "date": format_instant(configuration.date),
    }

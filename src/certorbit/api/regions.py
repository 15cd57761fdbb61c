"""The regions of the operator's own load balancers, the same in every dialect (contract.md)."""

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, message_answer
from certorbit.api.authentication import Reader, WriterEverywhere
from certorbit.api.dialects import DIALECTS, Dialect
from certorbit.api.documentation import answers_json, takes_body
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, read_body, read_config
from certorbit.api.routes import RouteAdder
from certorbit.api.schemas import MessageBody
from certorbit.api.site_schemas import RegionsBody, RegionsChange
from certorbit.services import regions
from certorbit.services.regions import RegionalBalancer


@dataclass(frozen=True, slots=True)
class RegionRoutes:
    """The endpoints of one dialect."""

    parts: Parts
    dialect: Dialect

    async def get_regions(self, config: ConfigPath, _caller: Reader) -> Response:
        """Get which datacenter serves which city, of each load balancer"""
        config_id, rules = read_config(config), self.parts.settings.regions
        found = await self.parts.store.read(lambda tx: regions.list_regions(tx, config_id, rules=rules))
        return JSONAnswer({"city_codes": rules.city_codes, "lbs": [_render(balancer) for balancer in found]})

    # Everywhere: the regions are those of the load balancers, which all configurations share.
    async def change_regions(self, request: Request, config: ConfigPath, _caller: WriterEverywhere) -> Response:
        """Choose datacenters for the load balancers named; what isn't named of theirs becomes automatic"""
        config_id, rules = read_config(config), self.parts.settings.regions
        body = await read_body(request, RegionsChange)
        wanted = [(balancer.id, balancer.regions or {}) for balancer in body.lbs]
        now = self.parts.clock.now()
        await self.parts.store.write(lambda tx: regions.change_regions(tx, config_id, wanted, rules=rules, now=now))
        return message_answer(self.dialect.update_message)


def add_region_routes(app: FastAPI, parts: Parts) -> None:
    """Add the regions under every dialect's prefix."""
    path = "/conf/{config}/load-balancers/regions"
    shown = answers_json("The regions", RegionsBody, 404)
    changes = takes_body(RegionsChange, required=True)
    for dialect in DIALECTS:
        routes = RegionRoutes(parts, dialect)
        updated = MessageBody if dialect.update_message else None
        changed = answers_json("Regions modified", updated, 400, 404, 413, 422)
        add = RouteAdder(app, "Load balancers", dialect).add
        add("GET", path, routes.get_regions, shown)
        add("POST", path, routes.change_regions, changed, body=changes)


def _render(balancer: RegionalBalancer) -> dict[str, Any]:
    return {
        "id": balancer.id,
        "name": balancer.name,
        "regions": balancer.regions,
        "upstream_regions": balancer.upstream_regions,
    }

"""The server groups of a configuration, the same in every dialect (contract.md, Around the certificates)."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import FastAPI, Path
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, message_answer
from certorbit.api.authentication import Reader, Writer
from certorbit.api.certificates import CREATED
from certorbit.api.dialects import DIALECTS, Dialect
from certorbit.api.documentation import answers_json, takes_body
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, read_body, read_config
from certorbit.api.routes import RouteAdder
from certorbit.api.schemas import MessageBody
from certorbit.api.site_schemas import (
    ServerGroup,
    ServerGroupAdd,
    ServerGroupChange,
    ServerGroupCreate,
    ServerGroupFields,
    ServerGroupList,
)
from certorbit.errors import BadInput
from certorbit.model.change_states import site_state
from certorbit.model.site import SITE_ID_PATTERN, ClientCertificateMode, Site, SiteID
from certorbit.services import sites

SitePath = Annotated[str, Path(pattern=SITE_ID_PATTERN, description="The server group's id")]
# What clients leave out where it is empty, though they send all the rest of a server group.
_LEFT_OUT = frozenset({"ssl_certificate", "client_certificate", "client_certificate_mode", "mobile_application_group"})


@dataclass(frozen=True, slots=True)
class SiteRoutes:
    """The endpoints of one dialect."""

    parts: Parts
    dialect: Dialect

    async def list_server_groups(self, config: ConfigPath, _caller: Reader) -> Response:
        """Get a list of the server groups of a configuration"""
        config_id = read_config(config)
        found = await self.parts.store.read(lambda tx: sites.list_sites(tx, config_id))
        return JSONAnswer({"total": len(found), "items": [_render(site) for site in found]})

    async def get_server_group(self, config: ConfigPath, site_id: SitePath, _caller: Reader) -> Response:
        """Get a specific server group of a configuration"""
        config_id = read_config(config)
        return JSONAnswer(
            _render(await self.parts.store.read(lambda tx: sites.get_site(tx, config_id, SiteID(site_id))))
        )

    async def create_server_group(
        self, request: Request, config: ConfigPath, site_id: SitePath, caller: Writer
    ) -> Response:
        """Create a new server group. Repeating a request is safe"""
        body = await read_body(request, ServerGroupCreate)
        _check_same_id(body, site_id)
        return await self._create(config, site_id, body=body, by=caller.name)

    async def add_server_group(self, request: Request, config: ConfigPath, caller: Writer) -> Response:
        """Create a new server group with the id in the body. Repeating a request is safe"""
        body = await read_body(request, ServerGroupAdd)
        return await self._create(config, body.id, body=body, by=caller.name)

    async def change_server_group(
        self, request: Request, config: ConfigPath, site_id: SitePath, caller: Writer
    ) -> Response:
        """Change a server group: the fields that are given"""
        config_id, now = read_config(config), self.parts.clock.now()
        body = await read_body(request, ServerGroupChange)
        _check_same_id(body, site_id)
        fields = _fields_of(body, given=_given(body))
        await self.parts.store.write(
            lambda tx: sites.change(
                tx,
                config_id,
                SiteID(site_id),
                lambda site: replace(site, **fields),
                by=caller.name,
                now=now,
                new_id=self.parts.new_id,
            )
        )
        return message_answer(self.dialect.update_message)

    async def delete_server_group(self, config: ConfigPath, site_id: SitePath, caller: Writer) -> Response:
        """Delete a server group from the specified configuration"""
        config_id, now = read_config(config), self.parts.clock.now()
        new_id = self.parts.new_id
        await self.parts.store.write(
            lambda tx: sites.delete(tx, config_id, SiteID(site_id), by=caller.name, now=now, new_id=new_id)
        )
        return message_answer(self.dialect.delete_message)

    async def _create(self, config: str, site_id: str, *, body: ServerGroupCreate, by: str) -> Response:
        config_id, now = read_config(config), self.parts.clock.now()
        fields = _fields_of(body, given=set(ServerGroupCreate.model_fields))
        site = Site(config=config_id, id=SiteID(site_id), **fields)
        new_id = self.parts.new_id
        await self.parts.store.write(lambda tx: sites.create(tx, site, by=by, now=now, new_id=new_id))
        return message_answer(CREATED, status=201)


def add_site_routes(app: FastAPI, parts: Parts) -> None:
    """Add the server groups under every dialect's prefix."""
    for dialect in DIALECTS:
        _add_dialect(app, SiteRoutes(parts, dialect))


def _add_dialect(app: FastAPI, routes: SiteRoutes) -> None:
    dialect = routes.dialect
    updated = MessageBody if dialect.update_message else None
    deleted = MessageBody if dialect.delete_message else None
    all_at = "/conf/{config}/server-groups"
    one_at = f"{all_at}/{{site_id}}"
    created = answers_json("Server group created", MessageBody, 400, 404, 409, 413, 422, status=201)
    changed = answers_json("Server group modified", updated, 400, 404, 413, 422)
    gone = answers_json("Server group deleted", deleted, 400, 404, 422)
    makes, changes = takes_body(ServerGroupCreate, required=True), takes_body(ServerGroupChange, required=True)
    add = RouteAdder(app, "Server groups", dialect).add
    add("GET", all_at, routes.list_server_groups, answers_json("The server groups", ServerGroupList, 404))
    add("POST", all_at, routes.add_server_group, created, status=201, body=takes_body(ServerGroupAdd, required=True))
    add("GET", one_at, routes.get_server_group, answers_json("The server group", ServerGroup, 404, 422))
    add("POST", one_at, routes.create_server_group, created, status=201, body=makes)
    add("PUT", one_at, routes.change_server_group, changed, body=changes)
    add("DELETE", one_at, routes.delete_server_group, gone)


def _check_same_id(body: ServerGroupFields, site_id: str) -> None:
    if body.id not in {"", site_id}:
        raise BadInput(f"id: the body says {body.id[:80]!r}, the path {site_id!r}; leave it empty.", subject="id")


def _given(body: ServerGroupChange) -> set[str]:
    """Return the fields that a PUT writes: those in the body.

    A body that has all the others is a whole server group: what is left out of it is empty. Clients leave fields out
    that way (Go's `omitempty`), and would see for ever what they took away.
    """
    given = set(body.model_fields_set)
    is_whole = set(ServerGroupChange.model_fields) - _LEFT_OUT - {"id"} <= given
    return given | _LEFT_OUT if is_whole else given


def _fields_of(body: ServerGroupCreate | ServerGroupChange, *, given: set[str]) -> dict[str, Any]:
    """Return the given fields as those of `Site`."""
    fields = {name: getattr(body, name) for name in given - {"id"}}
    if "server_names" in fields:
        fields["server_names"] = tuple(body.server_names or ())
    if "client_certificate_mode" in fields:
        fields["client_certificate_mode"] = ClientCertificateMode(body.client_certificate_mode or "off")
    return fields


def _render(site: Site) -> dict[str, Any]:
    return {"id": site.id, **site_state(site)}

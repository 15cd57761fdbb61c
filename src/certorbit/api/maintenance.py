"""The maintenance mode: switched while running, for all nodes, by an administrator."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from certorbit.api import schemas
from certorbit.api.answers import JSONAnswer, format_optional
from certorbit.api.authentication import Administrator, ReaderOfOwn
from certorbit.api.documentation import answers_json, takes_body
from certorbit.api.reading import read_body
from certorbit.api.routes import RouteAdder
from certorbit.clock import Clock
from certorbit.errors import BadInput
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.read_only import ReadOnlyMode
from certorbit.ports.store import Store, UnitOfWork

PATH = "/api/certorbit/v1/maintenance"
_KEPT = timedelta(seconds=2)  # a switch in another process is seen at most this much later


class MaintenanceSwitch:
    """Whether writes are taken: by the setting, else by what the store says, remembered for two seconds."""

    def __init__(self, *, store: Store, clock: Clock, is_forced: bool) -> None:
        self.is_forced = is_forced
        self._store = store
        self._clock = clock
        self._mode = ReadOnlyMode(on=False)
        self._read_at: datetime | None = None
        self._changes = 0

    async def is_on(self) -> bool:
        """Return whether writes are refused. Raises Unreachable."""
        if self.is_forced:
            return True
        now = self._clock.now()
        if self._read_at is None or not timedelta(0) <= now - self._read_at <= _KEPT:
            changes = self._changes
            mode = await self.read()
            if changes == self._changes:  # else what was read may be older than a change made here
                self._mode, self._read_at = mode, now
        return self._mode.on

    async def read(self) -> ReadOnlyMode:
        """Return what was switched, from the store."""
        return await self._store.read(lambda tx: tx.read_only_modes.find())

    async def turn(self, *, on: bool, by: str) -> ReadOnlyMode:
        """Switch for all nodes; here at once, elsewhere within seconds. Repeating it keeps the first date."""
        now = self._clock.now()

        def put(tx: UnitOfWork) -> ReadOnlyMode:
            before = tx.read_only_modes.find()
            if before.on is on:
                return before
            mode = ReadOnlyMode(on=on, since=now, by=by)
            tx.read_only_modes.put(mode)
            tx.audit.add(AuditEvent(action=Action.MAINTENANCE_SWITCHED, details={"on": on}), now=now)
            return mode

        mode = await self._store.write(put)
        self._changes += 1
        self._mode, self._read_at = mode, now
        return mode


@dataclass(frozen=True, slots=True)
class MaintenanceRoutes:
    """The endpoints."""

    switch: MaintenanceSwitch

    async def get_maintenance(self, _caller: ReaderOfOwn) -> Response:
        """Get whether the service is in maintenance mode, in which every write is refused"""
        return JSONAnswer(self._render(await self.switch.read()))

    async def change_maintenance(self, request: Request, caller: Administrator) -> Response:
        """Switch the maintenance mode of the whole service on or off; the other nodes follow within seconds"""
        body = await read_body(request, schemas.MaintenanceChange)
        if self.switch.is_forced:
            raise BadInput(
                "on: the setting CERTORBIT_MAINTENANCE keeps the service in maintenance; change it and restart.",
                subject="on",
            )
        return JSONAnswer(self._render(await self.switch.turn(on=body.on, by=caller.name)))

    def _render(self, mode: ReadOnlyMode) -> dict[str, Any]:
        forced = self.switch.is_forced
        return {"on": mode.on or forced, "is_forced": forced, "since": format_optional(mode.since), "by": mode.by}


def add_maintenance_routes(app: FastAPI, *, switch: MaintenanceSwitch) -> None:
    """Add the maintenance mode to the native API."""
    routes = MaintenanceRoutes(switch)
    shown = answers_json("The maintenance mode", schemas.MaintenanceBody)
    changed = answers_json("The maintenance mode now", schemas.MaintenanceBody, 400, 413, 422)
    changes = takes_body(schemas.MaintenanceChange, required=True)
    add = RouteAdder(app, "Maintenance").add
    add("GET", PATH, routes.get_maintenance, shown)
    add("POST", PATH, routes.change_maintenance, changed, body=changes)

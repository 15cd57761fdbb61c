"""The operator's commands: how a renewal stands, renew now, pause, another issuer, revoke, what is to come."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from certorbit.api import renewal_schemas
from certorbit.api.answers import JSONAnswer, format_instant
from certorbit.api.authentication import Reader, Writer
from certorbit.api.documentation import answers_json, takes_body
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, EntryPath, read_body, read_config
from certorbit.api.renewal_answers import render_forecast, render_status
from certorbit.api.routes import RouteAdder
from certorbit.errors import BadInput
from certorbit.model.ca_limits import LimitPolicy, policy_from
from certorbit.model.entry import ConfigID, EntryID, VersionID
from certorbit.model.renewal import RenewalRules, rules_from
from certorbit.services import forecasts, renewals, revocation

PREFIX = "/api/certorbit/v1"
CERTIFICATE = PREFIX + "/configs/{config}/certificates/{entry_id}"
MOST_DAYS = 366
MOST_CERTIFICATES = 5_000


@dataclass(frozen=True, slots=True)
class RenewalRoutes:
    """The endpoints. policy, rules: the settings' limits and renewal rules."""

    parts: Parts
    policy: LimitPolicy
    rules: RenewalRules

    async def get_renewal(self, config: ConfigPath, entry_id: EntryPath, _caller: Reader) -> Response:
        """Get when a certificate is renewed and why then, and what the CA says about it"""
        return await self._answer_status(read_config(config), EntryID(entry_id))

    async def change_renewal(
        self, config: ConfigPath, entry_id: EntryPath, request: Request, _caller: Writer
    ) -> Response:
        """Pause or resume the automatic renewal, or choose the issuer of a certificate"""
        config_id, now = read_config(config), self.parts.clock.now()
        body = await read_body(request, renewal_schemas.RenewalChange)
        if body.paused is None and body.issuer is None:
            raise BadInput("The body changes nothing; say `paused` or `issuer`.", subject="body")
        await self.parts.store.write(
            lambda tx: renewals.change_schedule(
                tx,
                config_id,
                EntryID(entry_id),
                paused=body.paused,
                issuer=body.issuer,
                issuers=self.parts.config_issuers(config_id),
                now=now,
            )
        )
        return await self._answer_status(config_id, EntryID(entry_id))

    async def renew_certificate(
        self, config: ConfigPath, entry_id: EntryPath, request: Request, _caller: Writer
    ) -> Response:
        """Renew a certificate now, whatever its schedule says; an uploaded one is replaced"""
        config_id, now = read_config(config), self.parts.clock.now()
        body = await read_body(request, renewal_schemas.RenewalRequest, optional=True)
        operation = await self.parts.store.write(
            lambda tx: renewals.renew_now(
                tx,
                config_id,
                EntryID(entry_id),
                issuer=body.issuer,
                issuers=self.parts.config_issuers(config_id),
                now=now,
                new_id=self.parts.new_id,
            )
        )
        return JSONAnswer({"operation": operation.id}, status_code=202)

    async def revoke_certificate(
        self, config: ConfigPath, entry_id: EntryPath, request: Request, _caller: Writer
    ) -> Response:
        """Revoke a certificate at its CA; one that renews automatically gets a replacement at once

        The replacement has a new key if the old one is compromised, whatever the settings say. 503: the CA did not
        answer, or says that it is asked too often.
        """
        config_id = read_config(config)
        body = await read_body(request, renewal_schemas.RevocationRequest)
        revoked = await revocation.revoke(
            revocation.Revocation(
                config=config_id,
                entry=EntryID(entry_id),
                version=None if body.version is None else VersionID(body.version),
                reason=body.reason,
            ),
            store=self.parts.store,
            issuers=self.parts.issuers,
            clock=self.parts.clock,
            new_id=self.parts.new_id,
        )
        return JSONAnswer({"revoked": True, "version": revoked.version, "operation": revoked.operation})

    async def forecast_renewals(
        self,
        _caller: Reader,
        days: Annotated[int, Query(ge=1, le=MOST_DAYS, description="How far to look")] = 30,
        limit: Annotated[int, Query(ge=1, le=MOST_CERTIFICATES, description="Certificates to look at")] = 1000,
    ) -> Response:
        """Simulate: what would be renewed in the next days, by whom, what CAs' limits hold back, what nothing renews

        A short-lived certificate comes up several times. Each is decided about anew, by the settings as they are now.
        """
        now = self.parts.clock.now()
        outlook = forecasts.Outlook(
            issuers=self.parts.issuers,
            by_config=self.parts.settings.issuers_by_configuration(),
            policy=self.policy,
            rules=self.rules,
            now=now,
            until=now + timedelta(days=days),
            limit=limit,
        )
        planned = await self.parts.store.read(lambda tx: forecasts.read_planned(tx, outlook))
        forecast = await asyncio.to_thread(forecasts.make_forecast, planned, outlook)
        return JSONAnswer({"until": format_instant(outlook.until), **render_forecast(forecast)})

    async def _answer_status(self, config: ConfigID, entry_id: EntryID) -> Response:
        parts = self.parts
        status = await parts.store.read(
            lambda tx: renewals.get_status(
                tx,
                config,
                entry_id,
                issuers=parts.config_issuers(config),
                now=parts.clock.now(),
            )
        )
        return JSONAnswer(render_status(status))


def add_renewal_routes(app: FastAPI, parts: Parts) -> None:
    """Add the operator's commands to the native API.

    Raises:
        BadInput: the settings' limits are wrong.
    """
    routes = RenewalRoutes(parts, policy_from(parts.settings.limits), rules_from(parts.settings.renewal))
    shown = answers_json("How the renewal stands", renewal_schemas.RenewalBody, 404, 422)
    changed = answers_json("How the renewal stands now", renewal_schemas.RenewalBody, 400, 404, 413, 422)
    started = answers_json("What was started", renewal_schemas.StartedOperation, 400, 404, 413, 422, status=202)
    revoked = answers_json("It is revoked", renewal_schemas.RevocationBody, 400, 404, 413, 422)
    planned = answers_json("The renewals to come", renewal_schemas.ForecastBody, 422)
    changes = takes_body(renewal_schemas.RenewalChange, required=True)
    renews = takes_body(renewal_schemas.RenewalRequest, required=False)
    revokes = takes_body(renewal_schemas.RevocationRequest, required=True)
    add = RouteAdder(app, "Renewals").add
    add("GET", f"{CERTIFICATE}/renewal", routes.get_renewal, shown)
    add("PATCH", f"{CERTIFICATE}/renewal", routes.change_renewal, changed, body=changes)
    add("POST", f"{CERTIFICATE}/renew", routes.renew_certificate, started, body=renews)
    add("POST", f"{CERTIFICATE}/revoke", routes.revoke_certificate, revoked, body=revokes)
    add("GET", f"{PREFIX}/renewals", routes.forecast_renewals, planned)

"""Load balancers in every dialect: listed, attached to, detached from (contract.md, Around the certificates)."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query
from starlette.responses import Response

from certorbit.api.answers import JSONAnswer, message_answer
from certorbit.api.authentication import Reader, Writer
from certorbit.api.balancer_schemas import LoadBalancerList
from certorbit.api.dialects import DIALECTS, Dialect
from certorbit.api.documentation import answers_json
from certorbit.api.parts import Parts
from certorbit.api.reading import ConfigPath, EntryPath, Flag, read_config
from certorbit.api.routes import RouteAdder
from certorbit.errors import CertorbitError, DeployFailed, NotFound, Outside, Refused, TargetGone, Throttled
from certorbit.model.balancer import Listener
from certorbit.model.entry import ConfigID, EntryID
from certorbit.services import balancers, listeners
from certorbit.services.listeners import ListenerQuery, ShownListener

_TEXT = r"^[^\x00-\x1f\x7f]*$"
NamePath = Annotated[str, Path(pattern=r"^[^\x00-\x1f\x7f]{1,255}$", description="The load balancer's name")]
Provider = Annotated[str, Query(pattern=r"^(aws|gcp|link11)$", description="aws, gcp or link11")]
Region = Annotated[str, Query(pattern=_TEXT, max_length=63, description="The load balancer's region")]
ListenerName = Annotated[str, Query(pattern=_TEXT, max_length=255, description="The listener's name")]
ListenerPort = Annotated[int | None, Query(alias="listener-port", ge=1, le=65535, description="The listener's port")]
CertificateID = Annotated[
    str, Query(alias="certificate-id", pattern=_TEXT, min_length=1, max_length=2048, description="An id or a link")
]
ELBv2 = Annotated[Flag, Query(description="AWS: an application or network load balancer, not a classic one")]


def read_listener_query(
    name: NamePath,
    provider: Provider,
    *,
    region: Region = "",
    listener: ListenerName = "",
    listener_port: ListenerPort = None,
    elbv2: ELBv2 = True,
) -> ListenerQuery:
    """Return how a request names a listener."""
    return ListenerQuery(
        provider=provider,
        region=region,
        load_balancer=name,
        listener=listener,
        port=listener_port,
        is_classic=not elbv2,
    )


NamedListener = Annotated[ListenerQuery, Depends(read_listener_query)]


@dataclass(frozen=True, slots=True)
class BalancerRoutes:
    """The endpoints of one dialect."""

    parts: Parts
    dialect: Dialect

    async def list_load_balancers(self, config: ConfigPath, _caller: Reader) -> Response:
        """Get the load balancers with their listeners and what they serve"""
        config_id = read_config(config)
        targets = self.parts.targets_of(config_id)
        if self.parts.inventory is not None:
            await self.parts.inventory.ensure()
        found = await self.parts.store.read(lambda tx: listeners.list_listeners(tx, config_id, targets))
        items = [_render(shown) for shown in found]
        return JSONAnswer({"total": len(items), "items": items})

    async def attach_certificate(
        self,
        config: ConfigPath,
        query: NamedListener,
        entry_id: EntryPath,
        caller: Writer,
        *,
        default: Annotated[Flag, Query(description="Serve it to clients that name no host")] = False,
    ) -> Response:
        """Attach a certificate to a listener of a load balancer

        It is proven by TLS handshakes that the listener serves it. Repeating a request is harmless.
        """
        parts, config_id = self.parts, read_config(config)
        await parts.store.read(lambda tx: balancers.check_attachable(tx, config_id, EntryID(entry_id)))
        seen = await self._look(config_id, query)
        command = balancers.Attach(
            config=config_id,
            entry=EntryID(entry_id),
            listener=seen,
            as_default=default,
            reaches=caller.may_reach,
        )
        now = parts.clock.now()
        asked = await parts.store.write(
            lambda tx: balancers.attach(tx, command, by=caller.name, now=now, new_id=parts.new_id)
        )
        await self._wait(asked)
        return message_answer("")

    async def detach_certificate(
        self, config: ConfigPath, query: NamedListener, caller: Writer, certificate_id: CertificateID
    ) -> Response:
        """Detach a certificate that is not the default from a listener"""
        parts, config_id = self.parts, read_config(config)
        found = await self._find(config_id, query)
        now = parts.clock.now()
        asked = await parts.store.write(
            lambda tx: balancers.detach(
                tx, config_id, certificate_id, found, by=caller.name, now=now, new_id=parts.new_id
            )
        )
        if asked is not None:
            await self._wait(asked)
        return message_answer("")

    async def _find(self, config: ConfigID, query: ListenerQuery) -> Listener:
        """Return the listener from the inventory; targets are asked anew when it isn't there."""
        parts, targets = self.parts, self.parts.targets_of(config)

        async def find() -> Listener | None:
            return await parts.store.read(lambda tx: listeners.find_listener(tx, query, targets))

        found = await find()
        failure: Outside | None = None
        if found is None and parts.inventory is not None:
            try:
                await parts.inventory.refresh(query.provider)
            except Outside as error:
                failure = error
            found = await find()
        if found is None and failure is not None:
            raise _final_word(failure) from failure
        if found is None:
            raise NotFound(_unknown(query, has_targets=bool(targets)), subject="name")
        return found

    async def _look(self, config: ConfigID, query: ListenerQuery) -> Listener:
        """Return the listener as its provider shows it now."""
        found = await self._find(config, query)
        try:
            return await self.parts.targets[found.key.target].target.look(found.key)
        except Outside as error:
            raise _final_word(error) from error

    async def _wait(self, asked: balancers.Asked) -> None:
        """Return when 200 is true: it is so, or it goes on whatever fails now."""
        parts = self.parts
        if asked.operation is not None:
            await parts.watch.wait(asked.operation, seconds=parts.settings.deployment.wait)
        await parts.store.write(lambda tx: balancers.settle(tx, asked))


def add_balancer_routes(app: FastAPI, parts: Parts) -> None:
    """Add the load balancers under every dialect's prefix."""
    for dialect in DIALECTS:
        _add_dialect(app, BalancerRoutes(parts, dialect))


def _add_dialect(app: FastAPI, routes: BalancerRoutes) -> None:
    dialect = routes.dialect
    all_at = "/conf/{config}/load-balancers"
    certificates_at = f"{all_at}/{{name}}/certificates"
    listed = answers_json("The load balancers, an item per listener", LoadBalancerList, 404)
    attached = answers_json("Attached, or it will be", None, 400, 404, 422)
    detached = answers_json("Detached, or it will be", None, 400, 404, 422)
    add = RouteAdder(app, "Load balancers", dialect).add
    add("GET", all_at, routes.list_load_balancers, listed)
    add("PUT", f"{certificates_at}/{{entry_id}}", routes.attach_certificate, attached)
    add("DELETE", certificates_at, routes.detach_certificate, detached)


def _render(shown: ShownListener) -> dict[str, Any]:
    listener = shown.listener
    return {
        "name": listener.key.load_balancer,
        "provider": listener.provider,
        "region": listener.key.region,
        "dns_name": listener.dns_name,
        "listener_name": listener.key.listener,
        "listener_port": listener.key.port,
        "load_balancer_type": listener.kind,
        "max_certificates": listener.max_certificates,
        "default_certificate": shown.default,
        "certificates": shown.certificates,
    }


def _final_word(error: Outside) -> CertorbitError:
    """Return what a client is told: 503 is for what may work if the same is sent again."""
    if isinstance(error, TargetGone):
        return NotFound(error.message, subject="name")
    if isinstance(error, DeployFailed) and not isinstance(error, Throttled):
        return Refused(error.message, subject="listener")
    return error


def _unknown(query: ListenerQuery, *, has_targets: bool) -> str:
    if not has_targets:
        return (
            "No load balancers are known: no [[targets]] table in the settings is for this configuration. Settings are"
            " read at the service's start: restart it after a change."
        )
    place = f" in region {query.region!r}" if query.region else ""
    listener = f" with listener {query.listener!r}" if query.listener else ""
    port = f" on port {query.port}" if query.port else ""
    return (
        f"There is no load balancer {query.load_balancer!r} of {query.provider}{place}{listener}{port}; GET"
        " load-balancers shows those that there are. One of a target that was added to the settings since the service's"
        " start is known after a restart."
    )

"""Certificate maps and their entries, as Certificate Manager's API has them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from certorbit.errors import TargetFull, TargetGone
from certorbit.model.balancer import Endpoint, Listener, ListenerKey
from certorbit.target_settings import GCPTargetSettings
from certorbit.targets.gcp.map_plan import EntryChange, MapEntry, find_default, find_others
from certorbit.targets.gcp.names import name_by_hostname, normalise_name
from certorbit.targets.gcp.problems import Conflict
from certorbit.targets.gcp.rest import RestClient, quote_part

log = structlog.get_logger(__name__)

LABEL: Final = "certorbit"
KIND: Final = "certificate-map"
MOST_OTHERS: Final = 1000  # ours: Google's quota of entries, which can be raised, answers before
PAGE: Final = {"pageSize": "100"}
_HTTPS_PORT: Final = 443
_MOST_TURNS: Final = 4
Plan = Callable[[Sequence[MapEntry]], list[EntryChange]]


class CertificateMaps:
    """The maps of one project. A map is a listener when a proxy with a forwarding rule uses it."""

    def __init__(self, settings: GCPTargetSettings, client: RestClient, *, parent: str) -> None:
        self._settings = settings
        self._client = client
        self._parent = parent

    async def list(self) -> Sequence[Listener]:
        maps = await self._client.list(
            f"{self._parent}/certificateMaps", "certificateMaps", api="certificatemanager", query=PAGE
        )
        found = []
        for item in maps:
            name, endpoints = str(item.get("name", "")).rsplit("/", 1)[-1], _read_endpoints(item)
            if endpoints:
                found.append(self._show(name, endpoints, await self._entries(name), port=_known_port(endpoints)))
        return sorted(found, key=lambda listener: listener.key)

    async def look(self, key: ListenerKey) -> Listener:
        """Return the listener as it is now. Raises TargetGone."""
        name, endpoints = await self._find(key)
        return self._show(name, endpoints, await self._entries(name), port=key.port)

    async def change(self, key: ListenerKey, plan: Plan) -> None:
        """Carry out what `plan` makes of the map's entries, and wait until Google says that they are served.

        Raises:
            TargetGone: no such map, or a certificate is not there.
            TargetFull: an entry would hold more than four. Nothing was changed.
        """
        name, _ = await self._find(key)
        turn = 0
        while changes := plan(await self._entries(name)):
            for change in changes:
                if change.is_too_much:
                    raise TargetFull(
                        f"{key}: the entry for {change.hostname or 'no name'} holds {len(change.certificates) - 1}"
                        " certificates already. Detach one of them.",
                        subject=str(key),
                    )
            try:
                for change in changes:
                    await self._apply(name, change)
                break
            except Conflict as conflict:  # somebody made the entry at the same time: look again
                turn += 1
                if turn >= _MOST_TURNS:
                    raise conflict.error from conflict
                await self._client.pause(turn)
        await self._wait_served(name)

    async def _apply(self, map_name: str, change: EntryChange) -> None:
        what = f"the entry of map {map_name} for {change.hostname or 'no name'}"
        base = self._base(map_name)
        if change.present is None:
            served = {"hostname": change.hostname} if change.hostname else {"matcher": "PRIMARY"}
            body: dict[str, Any] = {
                **served,
                "certificates": list(change.certificates),
                "labels": {LABEL: self._settings.owner},
            }
            query = {"certificateMapEntryId": name_by_hostname(change.hostname)}
            operation = await self._client.call("POST", base, api="certificatemanager", query=query, body=body)
        else:
            path = f"{base}/{quote_part(change.present.name)}"
            if change.certificates:
                operation = await self._client.call(
                    "PATCH",
                    path,
                    api="certificatemanager",
                    query={"updateMask": "certificates"},
                    body={"certificates": list(change.certificates)},
                )
            else:
                operation = await self._delete(path)
        await self._client.finish_long(operation, what=what)

    async def _delete(self, path: str) -> Mapping[str, Any]:
        try:
            return await self._client.call("DELETE", path, api="certificatemanager")
        except TargetGone:
            return {"done": True}

    async def _wait_served(self, name: str) -> None:
        """Wait while Google shows an entry as pending; it is not an error if it does so for long: the proof tells."""
        give_up = self._client.seconds_now() + self._settings.operation_seconds
        turn = 0
        while any(entry.is_pending for entry in await self._entries(name)):
            if self._client.seconds_now() >= give_up:
                log.warning("gcp.map_pending", target=self._settings.name, map=name)
                return
            await self._client.pause(turn)
            turn += 1

    async def _entries(self, map_name: str) -> Sequence[MapEntry]:
        items = await self._client.list(
            self._base(map_name), "certificateMapEntries", api="certificatemanager", query=PAGE
        )
        return [self._read(item) for item in items]

    def _read(self, item: Mapping[str, Any]) -> MapEntry:
        links, labels = item.get("certificates"), item.get("labels")
        project = self._settings.project
        return MapEntry(
            name=str(item.get("name", "")).rsplit("/", 1)[-1],
            hostname=str(item.get("hostname") or "").lower(),
            certificates=tuple(normalise_name(str(link), project=project) for link in links)
            if isinstance(links, list)
            else (),
            is_ours=isinstance(labels, dict) and labels.get(LABEL) == self._settings.owner,
            is_pending=item.get("state") == "PENDING",
        )

    async def _find(self, key: ListenerKey) -> tuple[str, tuple[Endpoint, ...]]:
        if key.region == self._settings.region and key.listener == key.load_balancer:
            try:
                item = await self._client.call(
                    "GET",
                    f"{self._parent}/certificateMaps/{quote_part(key.load_balancer)}",
                    api="certificatemanager",
                )
            except TargetGone:
                item = {}
            endpoints = _read_endpoints(item)
            if key.port in {endpoint.port for endpoint in endpoints}:
                return key.load_balancer, endpoints
        raise TargetGone(
            f"{key}: there is no such certificate map in project {self._settings.project} that a proxy with a"
            " forwarding rule for this port uses.",
            subject=str(key),
        )

    def _base(self, map_name: str) -> str:
        return f"{self._parent}/certificateMaps/{quote_part(map_name)}/certificateMapEntries"

    def _show(self, name: str, endpoints: tuple[Endpoint, ...], entries: Sequence[MapEntry], *, port: int) -> Listener:
        key = ListenerKey(
            target=self._settings.name,
            region=self._settings.region,
            load_balancer=name,
            listener=name,
            port=port,
        )
        return Listener(
            key=key,
            provider="gcp",
            kind=KIND,
            dns_name="",
            max_certificates=MOST_OTHERS,
            default=find_default(entries),
            certificates=find_others(entries),
            endpoints=endpoints,
        )


def _read_endpoints(item: Mapping[str, Any]) -> tuple[Endpoint, ...]:
    """Return where the map is served; the API lists proxies only when a forwarding rule leads to them."""
    found: list[Endpoint] = []
    for target in _dicts(item.get("gclbTargets")):
        for config in _dicts(target.get("ipConfigs")):
            address, ports = str(config.get("ipAddress") or ""), config.get("ports")
            if address and isinstance(ports, list):
                found += [Endpoint(address, port) for port in ports if isinstance(port, int)]
    return tuple(found)


def _known_port(endpoints: Sequence[Endpoint]) -> int:
    ports = sorted(endpoint.port for endpoint in endpoints)
    return _HTTPS_PORT if _HTTPS_PORT in ports else ports[0]


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

"""Target HTTPS and SSL proxies with the forwarding rules that lead to them: listeners, and what they hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Endpoint, Listener, ListenerKey
from certorbit.target_settings import GCPTargetSettings
from certorbit.targets.gcp.names import find_path, normalise_link
from certorbit.targets.gcp.problems import Conflict
from certorbit.targets.gcp.rest import RestClient, quote_part

log = structlog.get_logger(__name__)

HTTPS: Final = "targetHttpsProxies"
SSL: Final = "targetSslProxies"  # global only
_KINDS: Final = {HTTPS: "target-https-proxy", SSL: "target-ssl-proxy"}
MOST_CERTIFICATES: Final = 15  # facts.md 3.6; the first one is the default
PAGE: Final = {"maxResults": "500"}
_HTTPS_PORT: Final = 443
_MOST_TURNS: Final = 4  # somebody else changes the same proxy; after that the workflow tries again
_NOWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - rules of service meshes: no address to connect to
Change = Callable[[tuple[str, ...]], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Proxy:
    """certificates: normalised links, the default one first. fingerprint: of the resource, "" where there is none."""

    name: str
    collection: str
    certificates: tuple[str, ...]
    fingerprint: str
    endpoints: tuple[Endpoint, ...]

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(sorted({endpoint.port for endpoint in self.endpoints}))

    @property
    def port(self) -> int:
        """The port that it is known by: 443 if a rule has it, else the lowest one."""
        return _HTTPS_PORT if _HTTPS_PORT in self.ports else self.ports[0]


class Proxies:
    """The proxies of one project and scope."""

    def __init__(self, settings: GCPTargetSettings, client: RestClient, *, scope: str) -> None:
        self._settings = settings
        self._client = client
        self._scope = scope
        self._collections = (HTTPS, SSL) if settings.region == "global" else (HTTPS,)

    async def list(self) -> Sequence[Listener]:
        """Return the proxies that a forwarding rule leads to and whose certificates are not in a map, by key."""
        endpoints = await self._find_endpoints()
        found: dict[ListenerKey, Listener] = {}
        for collection in self._collections:
            items = await self._client.list(f"{self._scope}/{collection}", "items", api="compute", query=PAGE)
            for item in items:
                proxy = _read_proxy(item, collection, endpoints)
                if proxy is None:
                    continue
                listener = self._show(proxy, port=proxy.port)
                if listener.key in found:
                    # Its requests could not be told from those for the HTTPS proxy.
                    log.warning("gcp.proxy_name_taken", target=self._settings.name, proxy=proxy.name)
                    continue
                found[listener.key] = listener
        return [found[key] for key in sorted(found)]

    async def look(self, key: ListenerKey) -> Listener:
        """Return the listener as it is now. Raises TargetGone."""
        return self._show(await self._find(key), port=key.port)

    async def change(self, key: ListenerKey, change: Change) -> None:
        """Let the proxy hold what `change` makes of its certificates, against writers in between where the API can.

        HTTPS proxies are patched with the fingerprint that was read. SSL proxies have none: of two writers at one
        instant the last one wins.

        Raises:
            TargetGone: no such proxy, or a certificate is not there.
            TargetFull: more than 15. Nothing was changed.
            TargetRefused: it is changed by somebody else again and again.
        """
        turn = 0
        while True:
            proxy = await self._find(key)
            wanted = change(proxy.certificates)
            if wanted == proxy.certificates:
                return
            if len(wanted) > max(MOST_CERTIFICATES, len(proxy.certificates)):
                raise TargetFull(
                    f"{key}: the proxy holds {MOST_CERTIFICATES} certificates already, the most that Google takes."
                    " Detach one, use a certificate with more names, or a certificate map (mode manager).",
                    subject=str(key),
                )
            try:
                await self._set(proxy, wanted)
            except Conflict as conflict:
                turn += 1
                if turn >= _MOST_TURNS:
                    raise conflict.error from conflict
                await self._client.pause(turn)
            else:
                return

    async def _set(self, proxy: Proxy, wanted: tuple[str, ...]) -> None:
        name = quote_part(proxy.name)
        body: dict[str, Any] = {"sslCertificates": list(wanted)}
        if proxy.collection == HTTPS:
            body["fingerprint"] = proxy.fingerprint
            method, path = "PATCH", f"{self._scope}/{HTTPS}/{name}"
        else:
            method, path = "POST", f"{self._scope}/{SSL}/{name}/setSslCertificates"
        operation = await self._client.call(method, path, api="compute", body=body)
        await self._client.finish_compute(operation, scope=self._scope, what=f"the certificates of {proxy.name}")

    async def _find(self, key: ListenerKey) -> Proxy:
        if key.region == self._settings.region and key.listener == key.load_balancer:
            endpoints = await self._find_endpoints()
            for collection in self._collections:
                item = await self._get(collection, key.load_balancer)
                proxy = _read_proxy(item, collection, endpoints) if item else None
                if proxy is not None and key.port in proxy.ports:
                    return proxy
        raise TargetGone(
            f"{key}: there is no such target proxy with a forwarding rule for this port and certificates of its own"
            f" in project {self._settings.project}.",
            subject=str(key),
        )

    async def _get(self, collection: str, name: str) -> Mapping[str, Any] | None:
        try:
            return await self._client.call("GET", f"{self._scope}/{collection}/{quote_part(name)}", api="compute")
        except TargetGone:
            return None

    async def _find_endpoints(self) -> dict[str, tuple[Endpoint, ...]]:
        """Return where proxies can be reached, by their path."""
        rules = await self._client.list(f"{self._scope}/forwardingRules", "items", api="compute", query=PAGE)
        found: dict[str, list[Endpoint]] = {}
        for rule in sorted(rules, key=lambda rule: str(rule.get("name"))):
            address = str(rule.get("IPAddress") or "").split("/")[0]  # IPv6 ones may come as a network
            port = str(rule.get("portRange") or "").split("-")[0]
            if address not in _NOWHERE and port.isdecimal():
                found.setdefault(find_path(str(rule.get("target", ""))), []).append(Endpoint(address, int(port)))
        return {path: tuple(endpoints) for path, endpoints in found.items()}

    def _show(self, proxy: Proxy, *, port: int) -> Listener:
        return Listener(
            key=ListenerKey(
                target=self._settings.name,
                region=self._settings.region,
                load_balancer=proxy.name,
                listener=proxy.name,
                port=port,
            ),
            provider="gcp",
            kind=_KINDS[proxy.collection],
            dns_name="",
            max_certificates=MOST_CERTIFICATES - 1,
            default=next(iter(proxy.certificates), ""),
            certificates=proxy.certificates[1:],
            endpoints=proxy.endpoints,
        )


def add(handle: str, *, instead_of: str) -> Change:
    """Return the change that puts a certificate beside the default, or in the place of an older one."""

    def change(held: tuple[str, ...]) -> tuple[str, ...]:
        if instead_of in held and instead_of != handle:
            rest = [link for link in held if link != handle]
            return tuple(handle if link == instead_of else link for link in rest)
        return held if handle in held else (*held, handle)

    return change


def put_first(handle: str) -> Change:
    """Return the change that makes a certificate the default; what was it before is not kept."""

    def change(held: tuple[str, ...]) -> tuple[str, ...]:
        return held if held[:1] == (handle,) else (handle, *(link for link in held[1:] if link != handle))

    return change


def take_off(handle: str, *, key: ListenerKey) -> Change:
    """Return the change that takes a certificate off; it raises TargetRefused if that is the default one."""

    def change(held: tuple[str, ...]) -> tuple[str, ...]:
        if held[:1] == (handle,):
            raise TargetRefused(
                f"{key}: the certificate is the default one, which can't be taken off. Make another one the default.",
                subject=str(key),
            )
        return tuple(link for link in held if link != handle)

    return change


def _read_proxy(
    item: Mapping[str, Any], collection: str, endpoints: Mapping[str, tuple[Endpoint, ...]]
) -> Proxy | None:
    """Return the proxy; None if nothing leads to it, or a certificate map overrides its own certificates."""
    links = item.get("sslCertificates")
    found = endpoints.get(find_path(str(item.get("selfLink", ""))))
    if not found or item.get("certificateMap"):
        return None
    return Proxy(
        name=str(item.get("name", "")),
        collection=collection,
        certificates=tuple(normalise_link(str(link)) for link in links) if isinstance(links, list) else (),
        fingerprint=str(item.get("fingerprint", "")),
        endpoints=found,
    )

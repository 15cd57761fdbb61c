"""Classic ELB: one certificate per listener, no SNI. The listener's name is its port."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from certorbit.clock import Chance, Clock
from certorbit.errors import TargetGone
from certorbit.model.balancer import Listener, ListenerKey
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.listeners import find_endpoints, gone, is_default, takes_one, when_known
from certorbit.targets.aws.session import Connection, Listing

_TLS: Final = frozenset({"HTTPS", "SSL"})
_BALANCERS: Final = Listing("elb", "DescribeLoadBalancers", "LoadBalancerDescriptions", "Marker", "NextMarker")
_UNKNOWN: Final = frozenset({"CertificateNotFound"})


class ClassicListeners:
    def __init__(self, settings: AWSTargetSettings, connection: Connection, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._connection = connection
        self._clock = clock
        self._chance = chance

    async def discover(self, region: str) -> Sequence[Listener]:
        balancers = await self._connection.list_all(_BALANCERS, region, {}, subject=region)
        return [listener for balancer in balancers for listener in self._read(region, balancer)]

    async def look(self, key: ListenerKey) -> Listener:
        try:
            named = {"LoadBalancerNames": [key.load_balancer]}
            balancers = await self._connection.list_all(_BALANCERS, key.region, named, subject=str(key))
        except TargetGone as error:
            raise gone(key) from error
        for listener in (one for balancer in balancers for one in self._read(key.region, balancer)):
            if listener.key == key:
                return listener
        raise gone(key)

    async def attach(self, held: Listener, handle: str, *, instead_of: str) -> None:
        if held.holds(handle):
            return
        if not instead_of or instead_of != held.default:
            raise takes_one(held)
        await self.set_default(held, handle)

    async def set_default(self, held: Listener, handle: str) -> None:
        if handle == held.default:
            return
        chosen = {
            "LoadBalancerName": held.key.load_balancer,
            "LoadBalancerPort": held.key.port,
            "SSLCertificateId": handle,
        }
        send = partial(
            self._connection.call,
            "elb",
            held.key.region,
            "SetLoadBalancerListenerSSLCertificate",
            chosen,
            subject=str(held.key),
        )
        await when_known(send, unknown=_UNKNOWN, clock=self._clock, chance=self._chance)

    async def detach(self, held: Listener, handle: str) -> None:
        if handle == held.default:
            raise is_default(held)

    def _read(self, region: str, balancer: Mapping[str, Any]) -> list[Listener]:
        """Return the load balancer's TLS listeners."""
        name, dns_name = balancer["LoadBalancerName"], balancer.get("DNSName", "")
        found = []
        for item in (described["Listener"] for described in balancer.get("ListenerDescriptions", ())):
            if item.get("Protocol", "").upper() not in _TLS:
                continue
            port = int(item["LoadBalancerPort"])
            listener = Listener(
                key=ListenerKey(self._settings.name, region, name, str(port), port),
                provider="aws",
                kind="classic",
                dns_name=dns_name,
                max_certificates=0,
                default=item.get("SSLCertificateId") or "",
                certificates=(),
                endpoints=find_endpoints(self._settings, name, dns_name=dns_name, port=port),
            )
            found.append(listener)
        return found

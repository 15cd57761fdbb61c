"""ALB and NLB: a default certificate and a list of further ones, chosen by SNI."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Listener, ListenerKey, count_others
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.acm import CertificateStore
from certorbit.targets.aws.listeners import find_endpoints, gone, is_default, when_known
from certorbit.targets.aws.refusals import find_code
from certorbit.targets.aws.session import Connection, Listing

log = structlog.get_logger(__name__)

_TLS: Final = frozenset({"HTTPS", "TLS"})
_LISTENER_ARN: Final = re.compile(
    r"arn:[a-z-]+:elasticloadbalancing:([a-z0-9-]+):\d{12}:listener/(?:app|net)/([A-Za-z0-9-]+)/[0-9a-f]+/[0-9a-f]+\Z"
)
_BALANCERS: Final = Listing("elbv2", "DescribeLoadBalancers", "LoadBalancers", "Marker", "NextMarker")
_LISTENERS: Final = Listing("elbv2", "DescribeListeners", "Listeners", "Marker", "NextMarker")
_CERTIFICATES: Final = Listing("elbv2", "DescribeListenerCertificates", "Certificates", "Marker", "NextMarker")
_UNKNOWN: Final = frozenset({"CertificateNotFound"})
_NO_SUCH_LISTENER: Final = frozenset({"ListenerNotFound", "LoadBalancerNotFound"})


class ELBv2Listeners:
    """The listener's name is its ARN: unique, and what AWS's own API takes."""

    def __init__(
        self,
        settings: AWSTargetSettings,
        connection: Connection,
        store: CertificateStore,
        *,
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._store = store
        self._clock = clock
        self._chance = chance

    async def discover(self, region: str) -> Sequence[Listener]:
        found: list[Listener] = []
        for balancer in await self._connection.list_all(_BALANCERS, region, {}, subject=region):
            if balancer.get("Type") not in {"application", "network"}:
                continue
            asked = {"LoadBalancerArn": balancer["LoadBalancerArn"]}
            try:
                listeners = await self._connection.list_all(
                    _LISTENERS, region, asked, subject=balancer["LoadBalancerName"]
                )
                found += [await self._read(region, balancer, item) for item in listeners if _has_tls(item)]
            except TargetGone:  # deleted since it was listed
                log.info("target.balancer_gone", target=self._settings.name, name=balancer["LoadBalancerName"])
        return found

    async def look(self, key: ListenerKey) -> Listener:
        item = await self.describe(key)
        try:
            arns = {"LoadBalancerArns": [item["LoadBalancerArn"]]}
            balancers = await self._connection.list_all(_BALANCERS, key.region, arns, subject=str(key))
            if not balancers:
                raise gone(key)
            return await self._read(key.region, balancers[0], item)
        except TargetGone as error:
            raise gone(key) from error

    async def describe(self, key: ListenerKey) -> Mapping[str, Any]:
        """Return the listener as DescribeListeners shows it. Raises TargetGone."""
        match = _LISTENER_ARN.match(key.listener)
        if match is None or (match[1], match[2]) != (key.region, key.load_balancer):
            raise gone(key)
        try:
            items = await self._connection.list_all(
                _LISTENERS, key.region, {"ListenerArns": [key.listener]}, subject=str(key)
            )
        except TargetGone as error:
            raise gone(key) from error
        for item in items:
            if _has_tls(item) and item["Port"] == key.port:
                return item
        raise gone(key)

    async def attach(self, held: Listener, handle: str, *, instead_of: str) -> None:
        if instead_of and instead_of == held.default and handle != instead_of:
            await self._switch_default(held, handle)
        elif not held.holds(handle):
            if not held.has_room_for(1):
                raise _full(held, instead_of)
            await self._add(held, handle)
        if instead_of and instead_of != handle:
            await self._take_off(held, instead_of)

    async def set_default(self, held: Listener, handle: str) -> None:
        if handle == held.default:
            return
        await self._switch_default(held, handle)
        # An old default of ours that is on the list too would go on being served.
        if held.default and await self._store.is_ours(held.default):
            await self._take_off(held, held.default)

    async def detach(self, held: Listener, handle: str) -> None:
        if handle == held.default:
            raise is_default(held)
        if held.holds(handle):
            await self._take_off(held, handle)

    async def _switch_default(self, held: Listener, handle: str) -> None:
        """Make it the default one, and take it off the list, where it would use up a place."""
        chosen = {"ListenerArn": held.key.listener, "Certificates": [{"CertificateArn": handle}]}
        await self._change(held, "ModifyListener", chosen)
        if handle in held.certificates:
            await self._take_off(held, handle)

    async def _add(self, held: Listener, handle: str) -> None:
        added = {"ListenerArn": held.key.listener, "Certificates": [{"CertificateArn": handle}]}
        await self._change(held, "AddListenerCertificates", added)

    async def _take_off(self, held: Listener, handle: str) -> None:
        """Take it off the list. Harmless if it isn't on it.

        AWS may refuse this for the default one although it is on the list as well; it stays there then, which costs
        nothing, and goes when it is the default no more.
        """
        removed = {"ListenerArn": held.key.listener, "Certificates": [{"CertificateArn": handle}]}
        try:
            await self._connection.call(
                "elbv2", held.key.region, "RemoveListenerCertificates", removed, subject=str(held.key)
            )
        except TargetGone as error:
            if find_code(error) in _NO_SUCH_LISTENER:
                raise
        except TargetRefused as error:
            if find_code(error) != "OperationNotPermitted":
                raise
            log.info("target.default_stays_listed", target=self._settings.name, listener=str(held.key), handle=handle)

    async def _change(self, held: Listener, operation: str, parameters: Mapping[str, Any]) -> None:
        send = partial(self._connection.call, "elbv2", held.key.region, operation, parameters, subject=str(held.key))
        await when_known(send, unknown=_UNKNOWN, clock=self._clock, chance=self._chance)

    async def _read(self, region: str, balancer: Mapping[str, Any], item: Mapping[str, Any]) -> Listener:
        """Return the listener with all it holds. AWS shows the default one twice if it is on the list as well."""
        name, port, arn = balancer["LoadBalancerName"], int(item["Port"]), item["ListenerArn"]
        key = ListenerKey(self._settings.name, region, name, arn, port)
        held = await self._connection.list_all(_CERTIFICATES, region, {"ListenerArn": arn}, subject=str(key))
        default = next((one["CertificateArn"] for one in held if one.get("IsDefault")), "")
        others = dict.fromkeys(one["CertificateArn"] for one in held if one["CertificateArn"] != default)
        dns_name = balancer.get("DNSName", "")
        return Listener(
            key=key,
            provider="aws",
            kind=balancer["Type"],
            dns_name=dns_name,
            max_certificates=self._settings.max_listener_certificates,
            default=default,
            certificates=tuple(others),
            endpoints=find_endpoints(self._settings, name, dns_name=dns_name, port=port),
        )


def _has_tls(item: Mapping[str, Any]) -> bool:
    return item.get("Protocol") in _TLS


def _full(held: Listener, instead_of: str) -> TargetFull:
    """A full listener can't switch to another ARN: the new one has to be on before the old one goes."""
    why = " A new copy needs a free place before the old one is taken off." if held.holds(instead_of) else ""
    return TargetFull(
        f"{held.key}: holds {count_others(held)} certificates beside its default, {held.max_certificates} is the limit."
        f"{why} Take one off, or have the quota raised and set max_listener_certificates.",
        subject=str(held.key),
    )

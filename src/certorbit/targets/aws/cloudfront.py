"""CloudFront: one certificate per distribution, from ACM in us-east-1, changed with the whole configuration."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import TargetGone, TargetRefused
from certorbit.model.backoff import Poll
from certorbit.model.balancer import Listener, ListenerKey
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.listeners import find_endpoints, gone, is_default, takes_one, when_known
from certorbit.targets.aws.refusals import find_code
from certorbit.targets.aws.session import CLOUDFRONT_REGION, Connection, Listing

log = structlog.get_logger(__name__)

_PORT: Final = 443
_DISTRIBUTIONS: Final = Listing(
    "cloudfront", "ListDistributions", "DistributionList.Items", "Marker", "DistributionList.NextMarker"
)
# CloudFront says the same of a certificate that it doesn't know yet and of one that it doesn't take.
_UNKNOWN: Final = frozenset({"InvalidViewerCertificate"})
_CHANGED_MEANWHILE: Final = frozenset({"PreconditionFailed", "InvalidIfMatchVersion"})
_MOST_SWAPS: Final = 5
_DEPLOYED: Final = "Deployed"
_DEPLOYMENT: Final = Poll(first=5.0, longest=20.0, limit=900.0)  # AWS: some minutes
_NEW_PROTOCOL: Final = "TLSv1.2_2021"  # AWS's recommended policy, for distributions that had no certificate


class Distributions:
    """A distribution is one listener: load balancer and listener have its id, the region is that of its store."""

    def __init__(self, settings: AWSTargetSettings, connection: Connection, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._connection = connection
        self._clock = clock
        self._chance = chance

    async def discover(self, region: str) -> Sequence[Listener]:
        found = await self._connection.list_all(_DISTRIBUTIONS, region, {}, subject="the distributions")
        return [self._read(item, item) for item in found]

    async def look(self, key: ListenerKey) -> Listener:
        distribution = await self._get(key)
        listener = self._read(distribution, distribution["DistributionConfig"])
        if listener.key != key:
            raise gone(key)
        return listener

    async def attach(self, held: Listener, handle: str, *, instead_of: str) -> None:
        if not held.holds(handle) and (not instead_of or instead_of != held.default):
            raise takes_one(held)
        await self.set_default(held, handle)

    async def set_default(self, held: Listener, handle: str) -> None:
        """Change the distribution and wait until the change is everywhere, also if an earlier run made it."""
        await self._swap(held.key, handle)
        end = self._clock.now() + timedelta(seconds=_DEPLOYMENT.limit)
        turn = 0
        while (await self._get(held.key)).get("Status") != _DEPLOYED:
            if self._clock.now() >= end:
                raise TargetRefused(
                    f"{held.key}: CloudFront has not deployed the change within {_DEPLOYMENT.limit:g} s; it is looked"
                    " at again.",
                    subject=str(held.key),
                )
            await self._clock.sleep(_DEPLOYMENT.pause(turn, uniform=self._chance.between))
            turn += 1

    async def detach(self, held: Listener, handle: str) -> None:
        if handle == held.default:
            raise is_default(held)

    async def _swap(self, key: ListenerKey, handle: str) -> None:
        """Write the configuration with another certificate, if nobody else has written it since it was read."""
        turn = 0
        while True:
            current = await self._call("GetDistributionConfig", {"Id": key.load_balancer}, key)
            config = current["DistributionConfig"]
            viewer = config.get("ViewerCertificate") or {}
            if _find_certificate(viewer) == handle:
                return
            changed = {**config, "ViewerCertificate": _with_certificate(viewer, handle)}
            request = {"Id": key.load_balancer, "IfMatch": current["ETag"], "DistributionConfig": changed}
            send = partial(self._call, "UpdateDistribution", request, key)
            try:
                await when_known(send, unknown=_UNKNOWN, clock=self._clock, chance=self._chance)
            except TargetRefused as error:
                turn += 1
                if find_code(error) not in _CHANGED_MEANWHILE or turn >= _MOST_SWAPS:
                    raise
                log.info("target.changed_meanwhile", target=self._settings.name, listener=str(key), turn=turn)
            else:
                return

    async def _get(self, key: ListenerKey) -> Mapping[str, Any]:
        try:
            answer = await self._call("GetDistribution", {"Id": key.load_balancer}, key)
        except TargetGone as error:
            raise gone(key) from error
        distribution: Mapping[str, Any] = answer["Distribution"]
        return distribution

    async def _call(self, operation: str, parameters: Mapping[str, Any], key: ListenerKey) -> Mapping[str, Any]:
        return await self._connection.call("cloudfront", CLOUDFRONT_REGION, operation, parameters, subject=str(key))

    def _read(self, distribution: Mapping[str, Any], config: Mapping[str, Any]) -> Listener:
        name, domain = distribution["Id"], distribution["DomainName"]
        return Listener(
            key=ListenerKey(self._settings.name, CLOUDFRONT_REGION, name, name, _PORT),
            provider="aws",
            kind="cloudfront",
            dns_name=domain,
            max_certificates=0,
            default=_find_certificate(config.get("ViewerCertificate") or {}),
            certificates=(),
            endpoints=find_endpoints(self._settings, name, dns_name=domain, port=_PORT),
        )


def _find_certificate(viewer: Mapping[str, Any]) -> str:
    """Return the ARN or IAM's id; "" for CloudFront's own certificate."""
    return str(viewer.get("ACMCertificateArn") or viewer.get("IAMCertificateId") or "")


def _with_certificate(viewer: Mapping[str, Any], handle: str) -> dict[str, str]:
    """Return the setting with this certificate; how clients are served stays as it was."""
    had_one = bool(_find_certificate(viewer))
    return {
        "ACMCertificateArn": handle,
        "SSLSupportMethod": viewer["SSLSupportMethod"] if had_one else "sni-only",
        "MinimumProtocolVersion": viewer["MinimumProtocolVersion"] if had_one else _NEW_PROTOCOL,
    }

"""The AWS target: one account's ACM stores and the listeners that serve from them."""

import asyncio
from collections.abc import Mapping, Sequence

from certorbit.clock import Chance, Clock
from certorbit.errors import Outside, TargetRefused
from certorbit.model.balancer import Bundle, Copy, Listener, ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.ports.target import Finding, Grade, QuotaLedger
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.acm import CertificateStore
from certorbit.targets.aws.classic import ClassicListeners
from certorbit.targets.aws.client_checks import ClientChecks
from certorbit.targets.aws.cloudfront import Distributions
from certorbit.targets.aws.elbv2 import ELBv2Listeners
from certorbit.targets.aws.import_rules import CLOUDFRONT_SCOPE
from certorbit.targets.aws.listeners import Listeners, gone
from certorbit.targets.aws.rights import check_rights
from certorbit.targets.aws.session import CLOUDFRONT_REGION, Connection


class AWSTarget:
    """Copies are ACM certificates; handle and link are the ARN."""

    def __init__(self, settings: AWSTargetSettings, *, quota: QuotaLedger, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._connection = Connection(settings, clock=clock, chance=chance)
        self._store = CertificateStore(settings, self._connection, quota=quota, clock=clock, chance=chance)
        elbv2 = ELBv2Listeners(settings, self._connection, self._store, clock=clock, chance=chance)
        self._client_checks = ClientChecks(settings, self._connection, elbv2, clock=clock, chance=chance)
        kinds: dict[str, Listeners] = {
            "elbv2": elbv2,
            "elb": ClassicListeners(settings, self._connection, clock=clock, chance=chance),
            "cloudfront": Distributions(settings, self._connection, clock=clock, chance=chance),
        }
        self._kinds: dict[str, Listeners] = {service: kinds[service] for service in settings.services}

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def provider(self) -> str:
        return "aws"

    def scope_of(self, listener: ListenerKey) -> str:
        """Return the region: its listeners share a copy. CloudFront's copies lie in us-east-1 but are its own.

        It takes fewer types of keys than load balancers do, and a change in place would reach the whole world and the
        load balancers of us-east-1 at one stroke.
        """
        return CLOUDFRONT_SCOPE if _find_service(listener) == "cloudfront" else listener.region

    async def discover(self) -> Sequence[Listener]:
        looks = []
        for service, kind in self._kinds.items():
            regions = (CLOUDFRONT_REGION,) if service == "cloudfront" else await self._connection.regions()
            looks += [kind.discover(region) for region in regions]
        found = [listener for part in await asyncio.gather(*looks) for listener in part]
        return sorted(found, key=lambda listener: listener.key)

    async def look(self, listener: ListenerKey) -> Listener:
        return await (await self._kind_of(listener)).look(listener)

    async def install(self, bundle: Bundle, *, scope: str, present: Copy | None) -> Copy:
        return await self._store.install(bundle, scope=scope, present=present)

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        kind = await self._kind_of(listener)
        await kind.attach(await kind.look(listener), copy.handle, instead_of=instead_of)

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        kind = await self._kind_of(listener)
        await kind.set_default(await kind.look(listener), copy.handle)

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        kind = await self._kind_of(listener)
        await kind.detach(await kind.look(listener), handle)

    async def verify_listener_clients(self, listener: ListenerKey, policy: ClientPolicy | None) -> None:
        kind = await self._kind_of(listener)
        if _find_service(listener) == "elbv2":
            await self._client_checks.set(listener, policy)
        elif policy is not None:
            held = await kind.look(listener)
            raise TargetRefused(
                f"{listener}: a {held.kind} listener can't check client certificates; use an Application Load Balancer,"
                " or client_certificate_mode off.",
                subject=str(listener),
            )

    async def remove(self, handle: str) -> None:
        await self._store.remove(handle)

    async def list_copies(self) -> Mapping[str, str]:
        return await self._store.list_copies(await self._store_regions())

    async def check(self) -> Sequence[Finding]:
        findings = await check_rights(self._settings, self._connection, find_store_regions=self._store_regions)
        if any(finding.grade is Grade.FAILED for finding in findings):
            return findings
        try:
            count = len(await self.discover())
        except Outside as error:
            return [*findings, Finding("discover", Grade.FAILED, error.message)]
        return [*findings, Finding("discover", Grade.OK, f"{count} TLS listeners")]

    async def close(self) -> None:
        await self._connection.close()

    async def _store_regions(self) -> list[str]:
        """Return the regions where copies of ours can be."""
        own = () if tuple(self._kinds) == ("cloudfront",) else await self._connection.regions()
        return list(dict.fromkeys((*own, *((CLOUDFRONT_REGION,) if "cloudfront" in self._kinds else ()))))

    async def _kind_of(self, listener: ListenerKey) -> Listeners:
        """Raises TargetGone for kinds and regions that the settings leave out."""
        service = _find_service(listener)
        kind = self._kinds.get(service)
        if kind is None:
            raise gone(listener, f"the target's settings leave out {service}")
        regions = (CLOUDFRONT_REGION,) if service == "cloudfront" else await self._connection.regions()
        if listener.region not in regions:
            raise gone(listener, "the target's settings leave out this region")
        return kind


def _find_service(listener: ListenerKey) -> str:
    """Return whose listener this is by its name: an ARN, a port, or a distribution's id."""
    if listener.listener.startswith("arn:"):
        return "elbv2"
    return "elb" if listener.listener.isdecimal() else "cloudfront"

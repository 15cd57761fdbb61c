"""Client certificates at ALB listeners: the mutual authentication `verify` with a trust store of ours.

One ModifyListener changes mode and trust store, so CAs and lists, at once. It leaves certificates as they are, and a
ModifyListener for certificates leaves mutual authentication as it is: "any properties that you do not specify remain
unchanged" (API reference, ModifyListener).

Left alone: Network Load Balancers. They can check client certificates since November 2026, but let clients resume
sessions by tickets, and AWS doesn't say what a session is worth that began before the check.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import DeployFailed, TargetRefused
from certorbit.model.backoff import Poll
from certorbit.model.balancer import ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.site import ClientCertificateMode
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.targets.aws.elbv2 import ELBv2Listeners
from certorbit.targets.aws.refusals import find_code
from certorbit.targets.aws.session import Connection
from certorbit.targets.aws.trust_material import TrustMaterial, write_material
from certorbit.targets.aws.trust_stores import NOT_FOUND, TrustStores

log = structlog.get_logger(__name__)

_VERIFY: Final = "verify"
_OFF: Final = "off"
# Another process made, or deleted, the trust store or its objects between two calls of ours; or AWS lags behind.
_MEANWHILE: Final = frozenset(
    {
        NOT_FOUND,
        "TrustStoreNotReady",
        "DuplicateTrustStoreName",
        "CaCertificatesBundleNotFound",
        "RevocationContentNotFound",
    }
)
_TURNS: Final = Poll(first=1.0, longest=4.0, factor=2.0)
_MOST_TURNS: Final = 4


class ClientChecks:
    def __init__(
        self,
        settings: AWSTargetSettings,
        connection: Connection,
        listeners: ELBv2Listeners,
        *,
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._listeners = listeners
        self._stores = TrustStores(settings, connection, clock=clock, chance=chance)
        self._clock = clock
        self._chance = chance
        # By region: a policy that many listeners get at once (a new revocation list) is one trust store.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def set(self, key: ListenerKey, policy: ClientPolicy | None) -> None:
        """Let an ALB or NLB listener check its clients; see `ports.target.VerifiesListenerClients`."""
        async with self._locks[key.region]:
            if policy is None:
                await self._lift(key)
                return
            # A long list takes its milliseconds.
            material = await asyncio.to_thread(write_material, policy, target=self._settings.name)
            arn = await self._put_into_force(key, policy, material)
            await self._stores.sweep(key.region, keep=arn)

    async def _lift(self, key: ListenerKey) -> None:
        if await self._is_ours(key, _read_mutual(await self._listeners.describe(key))):
            await self._modify(key, {"Mode": _OFF})
            log.info("target.clients_unchecked", target=self._settings.name, listener=str(key))
            await self._stores.sweep(key.region)

    async def _put_into_force(self, key: ListenerKey, policy: ClientPolicy, material: TrustMaterial) -> str:
        """Return the ARN of the trust store that the listener checks by when this returns."""
        turn = 0
        while True:
            item = await self._listeners.describe(key)
            await self._check_possible(key, policy, item)
            try:
                return await self._switch(key, _read_mutual(item), material)
            except DeployFailed as error:
                turn += 1
                if find_code(error) not in _MEANWHILE or turn >= _MOST_TURNS:
                    raise
                log.info("target.changed_meanwhile", target=self._settings.name, listener=str(key), turn=turn)
            await self._clock.sleep(_TURNS.pause(turn, uniform=self._chance.between))

    async def _switch(self, key: ListenerKey, mutual: Mapping[str, Any], material: TrustMaterial) -> str:
        in_force = str(mutual.get("TrustStoreArn", "")) if mutual.get("Mode") == _VERIFY else ""
        if f":truststore/{material.name}/" not in in_force:
            self._check_valid(key, material)
        arn = await self._stores.provide(key.region, material)
        if in_force != arn or mutual.get("IgnoreClientCertificateExpiry"):
            wanted = {"Mode": _VERIFY, "TrustStoreArn": arn, "IgnoreClientCertificateExpiry": False}
            if advertise := mutual.get("AdvertiseTrustStoreCaNames"):
                wanted["AdvertiseTrustStoreCaNames"] = advertise
            await self._modify(key, wanted)
            log.info("target.clients_checked", target=self._settings.name, listener=str(key), by=arn)
        return arn

    async def _is_ours(self, key: ListenerKey, mutual: Mapping[str, Any]) -> bool:
        arn = str(mutual.get("TrustStoreArn", ""))
        return mutual.get("Mode") == _VERIFY and await self._stores.is_ours(arn, key.region)

    async def _modify(self, key: ListenerKey, mutual: Mapping[str, Any]) -> None:
        changed = {"ListenerArn": key.listener, "MutualAuthentication": mutual}
        await self._connection.call("elbv2", key.region, "ModifyListener", changed, subject=str(key))

    async def _check_possible(self, key: ListenerKey, policy: ClientPolicy, item: Mapping[str, Any]) -> None:
        mutual = _read_mutual(item)
        mode = mutual.get("Mode", _OFF)
        if item["Protocol"] != "HTTPS":
            why = "only listeners of Application Load Balancers can be made to check client certificates"
        elif policy.mode is not ClientCertificateMode.ON:
            why = (
                f"an Application Load Balancer has no client_certificate_mode {policy.mode.value!r}: it demands a good"
                " certificate, or checks none. Use on or off"
            )
        elif not self._settings.trust_store_bucket:
            why = (
                "AWS reads the CAs for client certificates from an S3 bucket, and none is set. Set trust_store_bucket"
                " (docs/targets/aws.md)"
            )
        elif mode != _OFF and not await self._is_ours(key, mutual):
            why = (
                f"somebody else set up its mutual authentication (mode {mode}), which is left alone. Turn it off, and"
                " Certorbit sets up its own"
            )
        else:
            return
        raise TargetRefused(f"{key}: {why}.", subject=str(key))

    def _check_valid(self, key: ListenerKey, material: TrustMaterial) -> None:
        """AWS doesn't say what becomes of clients whose list has ended; nobody may be let in by one."""
        if material.ends is not None and material.ends <= self._clock.now():
            raise TargetRefused(
                f"{key}: a revocation list of the bundle ended at {material.ends.isoformat()}; it is put into force"
                " when there is a newer one.",
                subject=str(key),
            )


def _read_mutual(item: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = item.get("MutualAuthentication") or {}
    return found

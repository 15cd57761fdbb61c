"""Certificate Manager: a copy is changed in place, and certificate maps say for which names it is served."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from certorbit.errors import TargetFull, TargetGone, TargetRefused, Unreachable
from certorbit.model.balancer import Bundle, Copy, Listener, ListenerKey
from certorbit.ports.target import Finding
from certorbit.target_settings import GCPTargetSettings
from certorbit.targets.gcp.map_plan import find_default, plan_attach, plan_default, plan_detach
from certorbit.targets.gcp.maps import LABEL, PAGE, CertificateMaps
from certorbit.targets.gcp.names import describe, find_fingerprint, name_by_entry, normalise_name
from certorbit.targets.gcp.problems import Conflict
from certorbit.targets.gcp.rest import RestClient, quote_part
from certorbit.targets.gcp.rights import MANAGER, check_target

log = structlog.get_logger(__name__)


class ManagerTarget:
    """One project's certificates and certificate maps."""

    def __init__(self, settings: GCPTargetSettings, client: RestClient) -> None:
        self._settings = settings
        self._client = client
        self._parent = f"projects/{settings.project}/locations/{settings.region}"
        self._maps = CertificateMaps(settings, client, parent=self._parent)

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def provider(self) -> str:
        return "gcp"

    def scope_of(self, listener: ListenerKey) -> str:
        return listener.region

    async def discover(self) -> Sequence[Listener]:
        return await self._maps.list()

    async def look(self, listener: ListenerKey) -> Listener:
        return await self._maps.look(listener)

    async def install(
        self,
        bundle: Bundle,
        *,
        scope: str,  # noqa: ARG002 - the project has one
        present: Copy | None,  # noqa: ARG002 - its name follows from the entry
    ) -> Copy:
        handle = f"{self._parent}/certificates/{name_by_entry(bundle, owner=self._settings.owner)}"
        found = await self._find(handle)
        if found is None:
            try:
                await self._create(handle, bundle)
            except Conflict:  # made by a run before us, or by this one: its first answer was lost
                found = await self._find(handle)
                if found is None:
                    raise Unreachable(
                        f"Target {self.name}: {handle} is being made or deleted by another operation of Google's.",
                        subject=self.name,
                        phase="read",
                    ) from None
        if found is not None:
            await self._update(handle, bundle, found=found)
        return Copy(handle=handle, link=handle)

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        held = await self.look(listener)
        is_held = held.holds(copy.handle) or (instead_of != "" and held.holds(instead_of))
        if not is_held and not held.has_room_for():
            raise TargetFull(f"{listener}: the map holds {held.max_certificates} certificates.", subject=str(listener))
        hostnames = await self._read_hostnames(copy.handle)
        if not hostnames and copy.handle != held.default:
            raise TargetRefused(
                f"{listener}: the certificate {copy.handle} has no DNS names, so a map can't choose it by SNI. Make it"
                " the default, or use another one.",
                subject=str(listener),
            )
        plan = partial(plan_attach, handle=copy.handle, hostnames=hostnames, instead_of=instead_of)
        await self._maps.change(listener, plan)

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        await self._maps.change(listener, partial(plan_default, handle=copy.handle))

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        def plan(entries: Sequence[Any]) -> list[Any]:
            if find_default(entries) == handle:
                raise TargetRefused(
                    f"{listener}: the certificate is the default one, which can't be taken off. Make another one the"
                    " default.",
                    subject=str(listener),
                )
            return plan_detach(entries, handle)

        await self._maps.change(listener, plan)

    async def remove(self, handle: str) -> None:
        if handle.rpartition("/")[0] != f"{self._parent}/certificates":
            raise TargetRefused(
                f"Target {self.name}: {handle} is not in this target's project. Delete it by hand.", subject=self.name
            )
        try:
            operation = await self._client.call("DELETE", _quote(handle), api="certificatemanager")
            await self._client.finish_long(operation, what=handle)
        except TargetGone:
            return
        except Conflict as conflict:
            raise conflict.error from conflict
        log.info("gcp.certificate_removed", target=self.name, certificate=handle)

    async def list_copies(self) -> Mapping[str, str]:
        items = await self._client.list(
            f"{self._parent}/certificates", "certificates", api="certificatemanager", query=PAGE
        )
        return {
            normalise_name(str(item.get("name", "")), project=self._settings.project): find_fingerprint(
                item.get("pemCertificate")
            )
            for item in items
            if self._is_ours(item)
        }

    async def check(self) -> Sequence[Finding]:
        return await check_target(self, self._client, project=self._settings.project, rights=MANAGER)

    async def close(self) -> None:
        await self._client.close()

    async def _create(self, handle: str, bundle: Bundle) -> None:
        body = {**self._material(bundle), "labels": {LABEL: self._settings.owner}}
        operation = await self._client.call(
            "POST",
            f"{self._parent}/certificates",
            api="certificatemanager",
            query={"certificateId": handle.rsplit("/", 1)[-1]},
            body=body,
        )
        await self._client.finish_long(operation, what=handle)
        log.info("gcp.certificate_created", target=self.name, certificate=handle, entry=bundle.entry_id)

    async def _update(self, handle: str, bundle: Bundle, *, found: Mapping[str, Any]) -> None:
        if find_fingerprint(found.get("pemCertificate")) == bundle.facts.fingerprint:
            return
        if not self._is_ours(found):
            raise TargetRefused(
                f"Target {self.name}: {handle} exists and has no label {LABEL}={self._settings.owner}. Delete it or"
                " give it the label.",
                subject=self.name,
            )
        try:
            operation = await self._client.call(
                "PATCH",
                _quote(handle),
                api="certificatemanager",
                query={"updateMask": "selfManaged,description"},
                body=self._material(bundle),
            )
            await self._client.finish_long(operation, what=handle)
        except Conflict as conflict:
            raise conflict.error from conflict
        log.info("gcp.certificate_updated", target=self.name, certificate=handle, entry=bundle.entry_id)

    def _material(self, bundle: Bundle) -> dict[str, Any]:
        return {
            "description": describe(bundle, owner=self._settings.owner),
            "selfManaged": {"pemCertificate": bundle.chain_pem, "pemPrivateKey": bundle.key.reveal()},
        }

    def _is_ours(self, item: Mapping[str, Any]) -> bool:
        labels = item.get("labels")
        return isinstance(labels, dict) and labels.get(LABEL) == self._settings.owner

    async def _find(self, handle: str) -> Mapping[str, Any] | None:
        try:
            return await self._client.call("GET", _quote(handle), api="certificatemanager")
        except TargetGone:
            return None

    async def _read_hostnames(self, handle: str) -> Sequence[str]:
        """Return the DNS names of a certificate; IP addresses are no server names (RFC 6066 §3). Raises TargetGone."""
        item = await self._client.call("GET", _quote(handle), api="certificatemanager")
        names = item.get("sanDnsnames")
        return [str(name) for name in names] if isinstance(names, list) else []


def _quote(name: str) -> str:
    return "/".join(quote_part(part) for part in name.split("/"))

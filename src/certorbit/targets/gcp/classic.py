"""Classic SSL certificates: immutable, so that each version is a resource of its own: create, switch, delete."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from certorbit.errors import TargetGone, TargetRefused, Unreachable
from certorbit.model.balancer import Bundle, Copy, Listener, ListenerKey
from certorbit.pki.pem import read_certificates
from certorbit.ports.target import Finding
from certorbit.target_settings import GCPTargetSettings
from certorbit.targets.gcp.names import (
    describe,
    find_fingerprint,
    find_path,
    is_described_by,
    make_link,
    name_by_version,
    normalise_link,
)
from certorbit.targets.gcp.problems import Conflict
from certorbit.targets.gcp.proxies import PAGE, Proxies, add, put_first, take_off
from certorbit.targets.gcp.rest import RestClient, quote_part
from certorbit.targets.gcp.rights import CLASSIC_GLOBAL, CLASSIC_REGIONAL, check_target

log = structlog.get_logger(__name__)

LONGEST_CHAIN: Final = 5  # facts.md 3.6
_LEAST_CHAIN: Final = 2  # an intermediate is needed


class ClassicTarget:
    """One project, in the global scope or in one region."""

    def __init__(self, settings: GCPTargetSettings, client: RestClient) -> None:
        self._settings = settings
        self._client = client
        place = "global" if settings.region == "global" else f"regions/{quote_part(settings.region)}"
        self._scope = f"projects/{quote_part(settings.project)}/{place}"
        self._store = f"{self._scope}/sslCertificates"
        self._proxies = Proxies(settings, client, scope=self._scope)

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def provider(self) -> str:
        return "gcp"

    def scope_of(self, listener: ListenerKey) -> str:
        return listener.region

    async def discover(self) -> Sequence[Listener]:
        return await self._proxies.list()

    async def look(self, listener: ListenerKey) -> Listener:
        return await self._proxies.look(listener)

    async def install(
        self,
        bundle: Bundle,
        *,
        scope: str,  # noqa: ARG002 - the target has one
        present: Copy | None,  # noqa: ARG002 - another version's resource is left as it is
    ) -> Copy:
        self._check_chain(bundle)
        name = name_by_version(bundle)
        found = await self._find(name)
        if found is None:
            try:
                await self._create(name, bundle)
            except Conflict:  # made by a run before us, or by this one: its first answer was lost
                found = await self._find(name)
                if found is None:
                    raise self._unfinished(name) from None
        if found is not None and find_fingerprint(_read_pem(found)) != bundle.facts.fingerprint:
            raise TargetRefused(
                f"Target {self.name}: the SSL certificate {name} exists with other content. Delete it.",
                subject=self.name,
            )
        link = make_link(f"{self._store}/{name}")
        return Copy(handle=link, link=link)

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        await self._proxies.change(listener, add(copy.handle, instead_of=instead_of))

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        await self._proxies.change(listener, put_first(copy.handle))

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        await self._proxies.change(listener, take_off(handle, key=listener))

    async def remove(self, handle: str) -> None:
        name = handle.removeprefix(make_link(f"{self._store}/"))
        if name == handle or "/" in name:
            raise TargetRefused(
                f"Target {self.name}: {handle} is not in this target's project and region. Delete it by hand.",
                subject=self.name,
            )
        try:
            operation = await self._client.call("DELETE", f"{self._store}/{quote_part(name)}", api="compute")
            await self._client.finish_compute(operation, scope=self._scope, what=name)
        except TargetGone:
            return
        except Conflict as conflict:
            raise conflict.error from conflict
        log.info("gcp.certificate_removed", target=self.name, certificate=name)

    async def list_copies(self) -> Mapping[str, str]:
        items = await self._client.list(self._store, "items", api="compute", query=PAGE)
        return {
            normalise_link(str(item.get("selfLink", ""))): find_fingerprint(_read_pem(item))
            for item in items
            if is_described_by(str(item.get("description", "")), owner=self._settings.owner)
            and find_path(str(item.get("selfLink", "")))
        }

    async def check(self) -> Sequence[Finding]:
        rights = CLASSIC_GLOBAL if self._settings.region == "global" else CLASSIC_REGIONAL
        return await check_target(self, self._client, project=self._settings.project, rights=rights)

    async def close(self) -> None:
        await self._client.close()

    def _check_chain(self, bundle: Bundle) -> None:
        count = len(read_certificates(bundle.chain_pem, subject="chain"))
        if _LEAST_CHAIN <= count <= LONGEST_CHAIN:
            return
        raise TargetRefused(
            f"Target {self.name}: the chain of {bundle.entry_id} has {count} certificate(s); Google takes a leaf with"
            f" an intermediate and at most {LONGEST_CHAIN} in all. Give the certificate with its chain, or use mode"
            " manager.",
            subject=self.name,
        )

    async def _find(self, name: str) -> Mapping[str, Any] | None:
        try:
            return await self._client.call("GET", f"{self._store}/{quote_part(name)}", api="compute")
        except TargetGone:
            return None

    async def _create(self, name: str, bundle: Bundle) -> None:
        body = {
            "name": name,
            "description": describe(bundle, owner=self._settings.owner),
            "type": "SELF_MANAGED",
            "selfManaged": {"certificate": bundle.chain_pem, "privateKey": bundle.key.reveal()},
        }
        operation = await self._client.call("POST", self._store, api="compute", body=body)
        await self._client.finish_compute(operation, scope=self._scope, what=name)
        log.info("gcp.certificate_created", target=self.name, certificate=name, entry=bundle.entry_id)

    def _unfinished(self, name: str) -> Unreachable:
        return Unreachable(
            f"Target {self.name}: the SSL certificate {name} is being made or deleted by another operation of Google's;"
            " it can be used soon.",
            subject=self.name,
            phase="read",
        )


def _read_pem(item: Mapping[str, Any]) -> object:
    """Return the chain of a certificate resource: Compute shows it in one of two places."""
    own = item.get("selfManaged")
    return item.get("certificate") or (own.get("certificate") if isinstance(own, dict) else None)

"""The target port as requests to an endpoint. The listeners stand in the settings, what they hold the endpoint says."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from certorbit.errors import Outside, TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy, Listener, ListenerKey
from certorbit.model.balancer import Endpoint as ProbeEndpoint
from certorbit.ports.target import Finding, Grade
from certorbit.target_settings.table import split_address
from certorbit.target_settings.webhook import WebhookListener, WebhookTargetSettings
from certorbit.targets.webhook.answers import Discovered, Done, HeldByListener, Installed, Listed
from certorbit.targets.webhook.endpoint import Endpoint

log = structlog.get_logger(__name__)

PROVIDER: Final = "link11"


class WebhookTarget:
    """A target behind an endpoint of the operator's."""

    def __init__(self, settings: WebhookTargetSettings, endpoint: Endpoint) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._tables: dict[ListenerKey, WebhookListener] = {
            ListenerKey(settings.name, settings.region, settings.shown_name, table.name, table.port): table
            for table in settings.listeners
        }

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def provider(self) -> str:
        return PROVIDER

    def scope_of(self, listener: ListenerKey) -> str:
        return f"{listener.listener}-{listener.port}"

    async def discover(self) -> Sequence[Listener]:
        """Return the listeners of the settings that the endpoint knows."""
        places = [{"listener": key.listener, "port": key.port} for key in sorted(self._tables)]
        answer = await self._endpoint.ask("discover", {"listeners": places}, Discovered, subject=self.name)
        keys = {(key.listener, key.port): key for key in self._tables}
        found: dict[ListenerKey, Listener] = {}
        for held in answer.listeners:
            key = keys.get((held.listener, held.port))
            if key is None or key in found:
                raise TargetRefused(
                    f"Target {self.name}: the endpoint's answer names a listener twice, or one that nobody asked for.",
                    subject=self.name,
                )
            found[key] = self._show(key, held)
        return [found[key] for key in sorted(found)]

    async def look(self, listener: ListenerKey) -> Listener:
        members = self._members_of(listener)
        held = await self._endpoint.ask("look", members, HeldByListener, subject=str(listener))
        if (held.listener, held.port) != (listener.listener, listener.port):
            raise TargetRefused(
                f"Target {self.name}: the endpoint was asked for {listener} and shows another listener.",
                subject=str(listener),
            )
        return self._show(listener, held)

    async def install(self, bundle: Bundle, *, scope: str, present: Copy | None) -> Copy:
        if scope not in {self.scope_of(key) for key in self._tables}:
            raise TargetGone(f"Target {self.name} has no listener {scope!r} (any more).", subject=self.name)
        members = {
            "scope": scope,
            "present": present.handle if present else "",
            "configuration": bundle.config,
            "entry": bundle.entry_id,
            "entry_uid": bundle.entry_uid,
            "version": bundle.version,
            "names": list(bundle.facts.san),
            "not_after": bundle.facts.not_after.isoformat(),
            "fingerprint": bundle.facts.fingerprint,
            "chain": bundle.chain_pem,
            "private_key": bundle.key.reveal(),
        }
        made = await self._endpoint.ask("install", members, Installed, subject=bundle.entry_id)
        log.info("target.installed", target=self.name, entry=bundle.entry_id, version=bundle.version, scope=scope)
        return Copy(handle=made.handle, link=made.link)

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        members = {**self._members_of(listener), "handle": copy.handle, "instead_of": instead_of}
        before = await self.look(listener)
        takes_place = before.holds(copy.handle) or (instead_of and before.holds(instead_of))
        if not takes_place and not before.has_room_for():
            raise TargetFull(
                f"{listener} takes {before.max_certificates} certificates beside its default and has them. Detach one"
                " first.",
                subject=str(listener),
            )
        await self._endpoint.ask("attach", members, Done, subject=str(listener))

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        members = {**self._members_of(listener), "handle": copy.handle}
        await self._endpoint.ask("set_default", members, Done, subject=str(listener))

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        members = {**self._members_of(listener), "handle": handle}
        await self._endpoint.ask("detach", members, Done, subject=str(listener))

    async def remove(self, handle: str) -> None:
        await self._endpoint.ask("remove", {"handle": handle}, Done, subject=handle)

    async def list_copies(self) -> Mapping[str, str]:
        answer = await self._endpoint.ask("list", {}, Listed, subject=self.name)
        found = {copy.handle: copy.fingerprint for copy in answer.copies}
        if len(found) < len(answer.copies):
            raise TargetRefused(f"Target {self.name}: the endpoint lists a copy twice.", subject=self.name)
        return found

    async def check(self) -> Sequence[Finding]:
        """Ask what is there. Whether the endpoint may write, only a change can tell."""
        try:
            found = {listener.key for listener in await self.discover()}
        except Outside as error:
            return [Finding("reach", Grade.FAILED, error.message)]
        findings = [Finding("reach", Grade.OK, "The endpoint answers, and accepts our signature.")]
        findings += [
            Finding("read", Grade.FAILED, f"The endpoint doesn't know the listener {key}.")
            for key in sorted(set(self._tables) - found)
        ]
        try:
            copies = await self.list_copies()
        except Outside as error:
            return [*findings, Finding("read", Grade.FAILED, error.message)]
        return [*findings, Finding("read", Grade.OK, f"The endpoint holds {len(copies)} certificates.")]

    async def close(self) -> None:
        await self._endpoint.close()

    def _members_of(self, listener: ListenerKey) -> dict[str, Any]:
        if listener not in self._tables:
            raise TargetGone(f"The settings of target {self.name} have no listener {listener}.", subject=str(listener))
        return {"listener": listener.listener, "port": listener.port}

    def _show(self, key: ListenerKey, held: HeldByListener) -> Listener:
        if len(set(held.certificates)) < len(held.certificates) or held.default in held.certificates:
            raise TargetRefused(
                f"Target {self.name}: the endpoint names a certificate of {key} twice.", subject=str(key)
            )
        table = self._tables[key]
        addresses = table.addresses or (self._settings.host,)
        return Listener(
            key=key,
            provider=PROVIDER,
            kind=self._settings.type,
            dns_name=self._settings.host,
            max_certificates=table.max_certificates,
            default=held.default,
            certificates=tuple(held.certificates),
            endpoints=tuple(ProbeEndpoint(*split_address(address, table.port)) for address in addresses),
        )

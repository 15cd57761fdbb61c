"""The Envoy target: what listeners hold is on a shelf, and an outlet brings it to the proxies."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import CertorbitError, LostRace, TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy, Endpoint, Listener, ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.ports.target import Finding, Grade, Shelf, ShelfState
from certorbit.target_settings import EnvoyTargetSettings
from certorbit.target_settings.table import split_address
from certorbit.targets.envoy.catalog import (
    Change,
    Place,
    find_slots,
    make_catalog,
    plan_attach,
    plan_default,
    plan_detach,
    plan_install,
    plan_remove,
    plan_undo,
)
from certorbit.targets.envoy.clients import find_misfits, find_unchecked, make_checks, plan_policy
from certorbit.targets.envoy.outlet import Outlet
from certorbit.targets.envoy.session import Catalog

log = structlog.get_logger(__name__)

_MOST_TRIES: Final = 5
_SETTLE_SECONDS: Final = (0.05, 0.3)  # before another try, when another node was quicker

Plan = Callable[[ShelfState], Change]


class EnvoyTarget:
    """See `ports.target.Target`. shelf: shared by all nodes that serve this target; outlet: of this process.

    watches: look for changes of other nodes while started (each has an outlet of its own).
    """

    provider = "link11"

    def __init__(
        self,
        settings: EnvoyTargetSettings,
        *,
        shelf: Shelf,
        outlet: Outlet,
        watches: bool,
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._settings = settings
        self._shelf = shelf
        self._outlet = outlet
        self._watches = watches
        self._clock = clock
        self._chance = chance
        self._places = tuple(
            Place(
                self._key(listener.name, listener.port),
                listener.secrets,
                listener.clients_secret,
                listener.require_client_certificate,
            )
            for listener in settings.listeners
        )
        self._writing = asyncio.Lock()
        self._shown = ShelfState(-1, (), {})
        self._watcher: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self._settings.name

    def scope_of(self, listener: ListenerKey) -> str:
        return f"{listener.listener}:{listener.port}"

    async def start(self) -> None:
        """Open the outlet with what the shelf holds, and follow the shelf from then on."""
        await self._refresh()
        for place, misfit in find_misfits(self._places, self._shown).items():
            log.error("envoy.check_misfits", target=self.name, listener=str(place.key), reason=misfit)
        await self._outlet.start()
        if self._watches:
            self._watcher = asyncio.create_task(self._watch(), name=f"envoy-{self.name}-shelf")

    async def close(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        await self._outlet.close()

    async def discover(self) -> Sequence[Listener]:
        state = await self._read()
        return [await self._describe(place, state) for place in self._places]

    async def look(self, listener: ListenerKey) -> Listener:
        return await self._describe(self._place(listener), await self._read())

    async def install(self, bundle: Bundle, *, scope: str, present: Copy | None) -> Copy:  # noqa: ARG002 - always in place
        place = self._place_of_scope(scope)
        handle = place.handle_of(bundle)
        await self._apply(lambda state: plan_install(state, place, bundle))
        log.info("target.installed", target=self.name, handle=handle, version=bundle.version)
        return Copy(handle=handle, link=f"envoy://{self.name}/{place.key.listener}/{bundle.entry_id}")

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        place = self._place(listener)
        await self._apply(lambda state: plan_attach(state, place, copy, instead_of=instead_of))
        log.info("target.attached", target=self.name, listener=str(listener), handle=copy.handle)

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        place = self._place(listener)
        await self._apply(lambda state: plan_default(state, place, copy))
        log.info("target.default_set", target=self.name, listener=str(listener), handle=copy.handle)

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        place = self._place(listener)
        await self._apply(lambda state: plan_detach(state, place, handle))
        log.info("target.detached", target=self.name, listener=str(listener), handle=handle)

    async def remove(self, handle: str) -> None:
        await self._apply(lambda state: plan_remove(state, self._places, handle))
        log.info("target.removed", target=self.name, handle=handle)

    async def verify_listener_clients(self, listener: ListenerKey, policy: ClientPolicy | None) -> None:
        """Put the policy, or none, into the listener's validation context (`ports.target.VerifiesListenerClients`).

        Raises, beside what the port says:
            Unreachable: a connected proxy hasn't taken it yet; it stays wanted, and a repeat waits again.
        """
        place = self._place(listener)
        checked = place if policy is not None else None
        change = await self._apply(lambda state: plan_policy(state, place, policy), checked=checked)
        if change.policies and checked is not None and self._watcher is not None:
            # What comes next may be the listener's first certificate: the other nodes' proxies check by then, too.
            await self._clock.sleep(self._settings.poll_seconds)
        if change.policies:
            mode = policy.mode.value if policy is not None else "off"
            log.info("target.clients_checked", target=self.name, listener=str(listener), mode=mode)

    async def list_copies(self) -> Mapping[str, str]:
        state = await self._read()
        return {item.name: item.bundle.facts.fingerprint for item in state.items}

    async def check(self) -> Sequence[Finding]:
        try:
            state = await self._read()
        except CertorbitError as error:
            return [Finding("read", Grade.FAILED, f"What is served can't be read: {error.message}")]
        return [
            Finding("read", Grade.OK, "What is served can be read."),
            *await self._outlet.check(),
            *find_unchecked(self._places, state, self._outlet),
        ]

    async def _apply(self, plan: Plan, *, checked: Place | None = None) -> Change:
        """Write the change, show it to the proxies, and take it back if one of them refuses it.

        Without a need for a change (a repeat) it is shown again all the same: the process may have died in between.
        checked: the listener whose check of clients is to be in force then.
        """
        before, change, after = await self._write(plan)
        catalog, earlier = await self._make_catalog(after), await self._make_catalog(before)
        touched = {name for name, secret in catalog.items() if earlier[name].version != secret.version}
        touched |= find_slots(after, self._places, change.handle)
        try:
            if checked is not None:
                refusal = await self._outlet.confirm_check(catalog[checked.clients_secret], beside=checked.secrets)
            else:
                refusal = await self._outlet.confirm([catalog[name] for name in sorted(touched)])
            if refusal:
                raise _refused(self.name, change.handle, refusal)
        except TargetRefused:
            await self._write(lambda state: plan_undo(state, change, before))
            raise
        return change

    async def _write(self, plan: Plan) -> tuple[ShelfState, Change, ShelfState]:
        """Write what the plan makes of the shelf, again if another node was quicker, and show it.

        Returns the shelf before, the change, and the shelf after.
        """
        tries = 0
        async with self._writing:
            while True:
                before = await self._shelf.load()
                change = plan(before)
                after = before
                try:
                    if change.is_needed:
                        after = await self._shelf.change(
                            at=before.revision,
                            put=change.put,
                            remove=change.remove,
                            slots=change.slots,
                            policies=change.policies,
                        )
                except LostRace:
                    tries += 1
                    if tries == _MOST_TRIES:
                        raise
                    await self._clock.sleep(self._chance.between(*_SETTLE_SECONDS))
                    continue
                await self._show(after)
                return before, change, after

    async def _read(self) -> ShelfState:
        """Return the shelf as it is now. Nothing is shown for that: a look must not change what is served."""
        shown = self._shown
        return shown if await self._shelf.revision() == shown.revision else await self._shelf.load()

    async def _refresh(self) -> None:
        """Show the shelf as it is now, if it is another one than the one that is shown."""
        async with self._writing:  # so that of two states the older one can't come out on top
            if await self._shelf.revision() != self._shown.revision:
                await self._show(await self._shelf.load())

    async def _show(self, state: ShelfState) -> None:
        await self._outlet.show(await self._make_catalog(state))
        self._shown = state

    async def _make_catalog(self, state: ShelfState) -> Catalog:
        # Checks first: in what is written or pushed at once nothing is served before its clients are checked.
        certificates = make_catalog(self._places, state, await self._outlet.placeholder())
        return {**make_checks(self._places, state), **certificates}

    async def _watch(self) -> None:
        """Follow what other nodes write, until `close`."""
        while True:
            await self._clock.sleep(self._settings.poll_seconds)
            try:
                await self._refresh()
            except CertorbitError as error:
                log.warning("envoy.shelf_unreadable", target=self.name, message=error.message)
            except Exception as error:  # noqa: BLE001 - a bug at one turn must not end the pushes for good, unseen
                log.error("envoy.watch_broken", target=self.name, error=type(error).__name__)  # noqa: TRY400 - may hold a key

    async def _describe(self, place: Place, state: ShelfState) -> Listener:
        stale = await self._outlet.find_stale(await self._make_catalog(state))
        held = {secret: handle for secret, handle in place.held(state).items() if secret not in stale}
        if place.clients_secret in stale:
            held = {}  # Nothing is served as it should be, to the clients that it should be.
        settings = next(
            one for one in self._settings.listeners if (one.name, one.port) == (place.key.listener, place.key.port)
        )
        addresses = settings.addresses or (self._settings.host,)
        return Listener(
            key=place.key,
            provider=self.provider,
            kind="envoy",
            dns_name=self._settings.host,
            max_certificates=len(place.secrets) - 1,
            default=held.pop(place.default, ""),
            certificates=tuple(held.values()),
            endpoints=tuple(Endpoint(*split_address(address, place.key.port)) for address in addresses),
        )

    def _key(self, listener: str, port: int) -> ListenerKey:
        return ListenerKey(
            target=self._settings.name,
            region=self._settings.region,
            load_balancer=self._settings.shown_name,
            listener=listener,
            port=port,
        )

    def _place(self, listener: ListenerKey) -> Place:
        for place in self._places:
            if place.key == listener:
                return place
        raise TargetGone(
            f"{listener}: the settings of target {self.name!r} have no such listener.", subject=str(listener)
        )

    def _place_of_scope(self, scope: str) -> Place:
        for place in self._places:
            if place.scope == scope:
                return place
        raise TargetGone(f"{self.name}: the settings have no listener {scope!r}.", subject=self.name)


def _refused(target: str, handle: str, said: str) -> TargetRefused:
    return TargetRefused(
        f"{target}: a proxy refused {handle!r}; it goes on with what it had. It said: {said}", subject=target
    )

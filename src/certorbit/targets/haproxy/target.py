"""HAProxyTarget: `ports.target.Target` for one HAProxy process and the folder that it starts from."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from certorbit.clock import Chance, Clock
from certorbit.errors import NEVER, TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy, Endpoint, Listener, ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.net.tries import T
from certorbit.ports.target import Finding
from certorbit.target_settings.haproxy import HAProxyListenerTable, HAProxyTargetSettings
from certorbit.target_settings.table import split_address
from certorbit.targets.files import in_thread, locked
from certorbit.targets.haproxy.changes import Changes
from certorbit.targets.haproxy.clients import Clients
from certorbit.targets.haproxy.disk import Disk, shown_config
from certorbit.targets.haproxy.findings import Checker, find_differences
from certorbit.targets.haproxy.material import combine, read_leaf
from certorbit.targets.haproxy.runtime import RuntimeAPI
from certorbit.targets.tries import call_again

log = structlog.get_logger(__name__)

PROVIDER: Final = "link11"
KIND: Final = "haproxy"


class HAProxyTarget:
    """One `[[targets]]` table of type haproxy. Scope: the listener's name."""

    def __init__(self, settings: HAProxyTargetSettings, *, clock: Clock, chance: Chance) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._disk = Disk(settings)
        self._turn = asyncio.Lock()
        self._runtime = RuntimeAPI(
            target=settings.name, socket=settings.socket, timeout_seconds=settings.timeout_seconds
        )
        self._clients = Clients(target=settings.name, runtime=self._runtime, disk=self._disk)
        self._changes = Changes(settings, runtime=self._runtime, disk=self._disk, clients=self._clients)
        self._tables = {self._key_of(table): table for table in settings.listeners}

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def provider(self) -> str:
        return PROVIDER

    def scope_of(self, listener: ListenerKey) -> str:
        return listener.listener

    async def discover(self) -> Sequence[Listener]:
        listeners = [await self.look(key) for key in sorted(self._tables)]
        for table in self._settings.listeners:
            for difference in await find_differences(table, runtime=self._runtime, disk=self._disk):
                log.warning("haproxy.differs", target=self.name, listener=table.name, difference=difference)
        return listeners

    async def look(self, listener: ListenerKey) -> Listener:
        table = self._table_of(listener)
        found, is_settled = await self._reading(lambda: self._look(listener, table), what="look")
        if not is_settled:
            # A change that is halfway, or one that died there. The lock tells them apart.
            found, _ = await self._changing(lambda: self._look(listener, table), what="look")
        return found

    async def install(self, bundle: Bundle, *, scope: str, present: Copy | None) -> Copy:  # noqa: ARG002 - always in place
        if all(table.name != scope for table in self._settings.listeners):
            raise self._gone(scope)
        handle = self._disk.path_of(scope, config=bundle.config, entry=bundle.entry_id)
        pem = combine(bundle)
        await self._changing(lambda: self._changes.put(handle, pem, name=scope), what="install")
        log.info("target.installed", target=self.name, handle=handle, version=bundle.version)
        link = f"haproxy://{self.name}/{scope}/{shown_config(bundle.config)}/{bundle.entry_id}"
        return Copy(handle=handle, link=link)

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        table = self._table_of(listener)
        await self._changing(lambda: self._changes.attach(table, copy.handle, instead_of=instead_of), what="attach")
        log.info("target.attached", target=self.name, listener=table.name, handle=copy.handle)

    async def verify_clients(self, listener: ListenerKey, copy: Copy, policy: ClientPolicy | None) -> None:
        table = self._table_of(listener)
        if not self._disk.is_handle(copy.handle):
            raise TargetGone(f"Target {self.name}: there is no copy {copy.handle}.", subject=copy.handle)
        if policy is None and not await in_thread(lambda: self._clients.options(copy.handle)):
            return  # it has none: a line has options only while the note is there
        await self._changing(lambda: self._clients.set(table, copy.handle, policy), what="verify_clients")
        log.info("target.clients_verified", target=self.name, handle=copy.handle, mode=policy.mode if policy else "off")

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        table = self._table_of(listener)
        await self._changing(lambda: self._changes.set_default(table, copy.handle), what="set_default")
        log.info("target.default_set", target=self.name, listener=table.name, handle=copy.handle)

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        table = self._table_of(listener)
        await self._changing(lambda: self._changes.detach(table, handle), what="detach")
        log.info("target.detached", target=self.name, listener=table.name, handle=handle)

    async def remove(self, handle: str) -> None:
        if not self._disk.is_handle(handle):
            raise TargetRefused(
                f"Target {self.name}: {handle} is no copy in {self._settings.directory}; nothing is deleted there.",
                subject=handle,
                retry=NEVER,
            )
        await self._changing(lambda: self._changes.remove(handle), what="remove")
        log.info("target.removed", target=self.name, handle=handle)

    async def list_copies(self) -> Mapping[str, str]:
        return await self._reading(self._list_copies, what="list_copies")

    async def check(self) -> Sequence[Finding]:
        return await Checker(self._settings, runtime=self._runtime, disk=self._disk).run()

    async def close(self) -> None:
        """Nothing is kept open between calls."""

    async def _look(self, key: ListenerKey, table: HAProxyListenerTable) -> tuple[Listener, bool]:
        """Return the listener, and whether its default file and what HAProxy serves as default are the same."""
        paths = list(dict.fromkeys(entry.path for entry in await self._runtime.entries(table.crt_list)))
        default, is_settled = paths[0] if paths else "", True
        if default and self._disk.is_handle(default):
            default = ""  # the list was empty at HAProxy's start (strict-sni): the first copy is like any other
        elif default == self._disk.default_of(table.name) and (
            handle := await in_thread(lambda: self._disk.default_handle(table.name))
        ):
            pem = await in_thread(lambda: self._disk.read(handle))
            loaded = (await self._runtime.loaded([default])).get(default)
            is_settled = loaded is not None and loaded.sha1 == read_leaf(pem or "").sha1
            paths = [path for path in paths[1:] if path != handle]
            default = handle if is_settled else default
        listener = Listener(
            key=key,
            provider=PROVIDER,
            kind=KIND,
            dns_name=self._settings.host,
            max_certificates=self._settings.max_certificates,
            default=default,
            certificates=tuple(path for path in paths if path != default),
            endpoints=tuple(
                Endpoint(*split_address(address, table.port)) for address in table.addresses or (self._settings.host,)
            ),
        )
        return listener, is_settled

    async def _list_copies(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for table in self._settings.listeners:
            handles = await in_thread(partial(self._disk.copies, table.name))
            loaded = await self._runtime.loaded(handles)
            for handle in handles:
                pem = await in_thread(partial(self._disk.read, handle))
                leaf = read_leaf(pem or "")
                # Where HAProxy has another version than the file, neither is *the* copy's: the next install tells.
                is_same = handle not in loaded or loaded[handle].sha1 == leaf.sha1
                found[handle] = leaf.sha256 if is_same else ""
        return found

    async def _reading(self, call: Callable[[], Awaitable[T]], *, what: str) -> T:
        return await call_again(call, target=self.name, what=what, clock=self._clock, chance=self._chance)

    async def _changing(self, call: Callable[[], Awaitable[T]], *, what: str) -> T:
        """Run the call under the target's lock and without an open transaction."""

        async def change() -> T:
            # Our own changes queue up in order; the folder's lock, which is asked for again and again, is for others.
            async with self._turn:
                with self._disk.errors():
                    async with locked(
                        self._disk.directory,
                        seconds=self._settings.timeout_seconds,
                        clock=self._clock,
                        target=self.name,
                    ):
                        await self._changes.settle()
                        return await call()

        return await self._reading(change, what=what)

    def _key_of(self, table: HAProxyListenerTable) -> ListenerKey:
        settings = self._settings
        return ListenerKey(
            target=settings.name,
            region=settings.region,
            load_balancer=settings.shown_name,
            listener=table.name,
            port=table.port,
        )

    def _table_of(self, listener: ListenerKey) -> HAProxyListenerTable:
        table = self._tables.get(listener)
        if table is None:
            raise self._gone(f"{listener.listener}:{listener.port}")
        return table

    def _gone(self, listener: str) -> TargetGone:
        return TargetGone(f"Target {self.name} has no listener {listener} in the settings.", subject=listener)

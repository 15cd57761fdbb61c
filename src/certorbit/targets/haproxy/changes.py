"""What HAProxy has in memory and what it would start with, changed together.

Content: HAProxy first, then the file, so that a certificate which HAProxy refuses never gets into a file that it has
to start from. A line of the crt-list: for a new one the same; for one that goes, the file first. So whatever a crash
leaves half-done, HAProxy can start, and the repeat finds what is missing.

All functions here run under the lock of the target (`target.py`).
"""

from collections.abc import Sequence
from functools import partial

import structlog

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.net.tries import Passing
from certorbit.target_settings.haproxy import HAProxyListenerTable, HAProxyTargetSettings
from certorbit.targets.files import in_thread
from certorbit.targets.haproxy.answers import ListEntry
from certorbit.targets.haproxy.clients import Clients
from certorbit.targets.haproxy.disk import Disk
from certorbit.targets.haproxy.material import NO_LEAF, read_leaf
from certorbit.targets.haproxy.runtime import RuntimeAPI

log = structlog.get_logger(__name__)


class Changes:
    """The changes at one target."""

    def __init__(self, settings: HAProxyTargetSettings, *, runtime: RuntimeAPI, disk: Disk, clients: Clients) -> None:
        self._settings = settings
        self._runtime = runtime
        self._disk = disk
        self._clients = clients

    async def settle(self) -> None:
        """Drop the open transaction if it is of one of our files: whoever opened it is dead, for we hold the lock."""
        whose = (await self._runtime.inventory()).transaction
        if not whose:
            return
        if not self._disk.is_ours(whose):
            raise Passing(self._runtime.foreign_transaction(whose))
        log.warning("haproxy.transaction_aborted", target=self._settings.name, certificate=whose)
        await self._runtime.abort(whose)

    async def put(self, handle: str, pem: str, *, name: str) -> None:
        """Make this the copy's content: at the default if the copy is that, at the copy's own path, in the file."""
        before = await in_thread(lambda: self._disk.read(handle))
        is_default = await in_thread(lambda: self._disk.default_handle(name)) == handle
        default = self._disk.default_of(name)
        is_default = is_default and default in (await self._runtime.inventory()).names
        if is_default:
            await self._load(default, pem)
        try:
            await self._load(handle, pem)
        except TargetRefused:
            if is_default and before is not None:
                await self._load(default, before)
            raise
        await in_thread(lambda: self._disk.write(handle, pem))
        await self._verify(default if is_default else handle, pem)

    async def attach(self, listener: HAProxyListenerTable, handle: str, *, instead_of: str) -> None:
        """Put the copy on the list, and an older one off it. Raises TargetGone, TargetFull, TargetRefused."""
        entries = await self._runtime.entries(listener.crt_list)
        default = await self._managed_default(listener, entries)
        pem = await self._read(handle)
        options = await in_thread(lambda: self._clients.options(handle))
        if default and default in {handle, instead_of}:
            await self.set_default(listener, handle)
        else:
            if handle not in {entry.path for entry in entries}:
                self._check_room(listener, entries, without={handle, instead_of})
                await self._load_if_missing(handle, pem)
                await self._runtime.add_entry(listener.crt_list, handle, options=options)
            await in_thread(lambda: self._disk.add_line(listener.crt_list, handle, options=options))
        if instead_of not in {"", handle}:
            await self._drop(listener, instead_of)

    async def set_default(self, listener: HAProxyListenerTable, handle: str) -> None:
        """Give the listener's default file the copy's content, and take the copy's own line off the list."""
        entries = await self._runtime.entries(listener.crt_list)
        default = self._disk.default_of(listener.name)
        if not entries or entries[0].path != default:
            raise TargetRefused(
                f"Target {self._settings.name}, listener {listener.name!r}: its default certificate is not ours to"
                f" change. Make {default} the first line of {listener.crt_list} (a copy of today's default), and"
                " reload HAProxy once.",
                subject=listener.name,
            )
        if handle == default:
            await self._restore_default(listener)
            return
        pem = await self._read(handle)
        if await in_thread(lambda: self._clients.options(handle)):
            raise self._clients.refuse_default(listener, handle)
        await self._load(default, pem)
        await in_thread(lambda: self._disk.point_default_at(handle, name=listener.name))
        await self._verify(default, pem)
        await self._drop(listener, handle)

    async def detach(self, listener: HAProxyListenerTable, handle: str) -> None:
        """Take the copy off the list. Raises TargetRefused: it is the default."""
        entries = await self._runtime.entries(listener.crt_list)
        default = self._disk.default_of(listener.name)
        if handle in {default, await self._managed_default(listener, entries)}:
            raise TargetRefused(
                f"Target {self._settings.name}, listener {listener.name!r}: {handle} is its default certificate; make"
                " another one the default first.",
                subject=listener.name,
            )
        await self._drop(listener, handle)

    async def remove(self, handle: str) -> None:
        """Delete the copy in HAProxy, then its file. Raises TargetRefused while a listener has it, also on disk."""
        names = (await self._runtime.inventory()).names
        for listener in self._settings.listeners:
            default = self._disk.default_of(listener.name)
            listed = await in_thread(partial(self._disk.listed, listener.crt_list))
            is_default = await in_thread(partial(self._disk.default_handle, listener.name)) == handle
            if handle in listed or (is_default and (default in listed or default in names)):
                raise TargetRefused(
                    f"Target {self._settings.name}: {handle} is in use by listener {listener.name!r}.", subject=handle
                )
        await self._runtime.delete(handle)
        await self._clients.forget(handle)
        await in_thread(lambda: self._disk.delete(handle))

    async def _restore_default(self, listener: HAProxyListenerTable) -> None:
        default = self._disk.default_of(listener.name)
        pem = await in_thread(lambda: self._disk.read_original_default(listener.name))
        if pem is None:
            raise TargetGone(
                f"Target {self._settings.name}: the certificate that {default} once had is gone.", subject=default
            )
        await self._load(default, pem)
        await in_thread(lambda: self._disk.write(default, pem))
        await self._verify(default, pem)

    async def _managed_default(self, listener: HAProxyListenerTable, entries: Sequence[ListEntry]) -> str:
        if not entries or entries[0].path != self._disk.default_of(listener.name):
            return ""
        return await in_thread(lambda: self._disk.default_handle(listener.name))

    async def _drop(self, listener: HAProxyListenerTable, path: str) -> None:
        """Take all of the path's lines off: the file's first, for then what HAProxy still has shows what is left."""
        await in_thread(lambda: self._disk.drop_lines(listener.crt_list, path))
        for entry in await self._runtime.entries(listener.crt_list):
            if entry.path != path:
                continue
            try:
                await self._runtime.delete_entry(listener.crt_list, entry)
            except TargetRefused:
                await in_thread(partial(self._disk.add_line, listener.crt_list, path, options=entry.options))
                raise

    async def _read(self, handle: str) -> str:
        pem = await in_thread(lambda: self._disk.read(handle)) if self._disk.is_handle(handle) else None
        if pem is None:
            raise TargetGone(f"Target {self._settings.name}: there is no copy {handle}.", subject=handle)
        return pem

    def _check_room(self, listener: HAProxyListenerTable, entries: Sequence[ListEntry], *, without: set[str]) -> None:
        others = {entry.path for entry in entries} - without - {self._disk.default_of(listener.name)}
        if len(others) >= self._settings.max_certificates:
            raise TargetFull(
                f"Target {self._settings.name}, listener {listener.name!r}: {len(others)} certificates are on it; the"
                f" most is {self._settings.max_certificates} (max_certificates).",
                subject=listener.name,
            )

    async def _load_if_missing(self, handle: str, pem: str) -> None:
        loaded = (await self._runtime.loaded([handle])).get(handle)
        if loaded is None or loaded.sha1 != read_leaf(pem).sha1:
            await self._load(handle, pem)  # HAProxy was restarted since, and no list had named it

    async def _load(self, path: str, pem: str) -> None:
        is_new = path not in (await self._runtime.inventory()).names
        if is_new:
            await self._runtime.create(path)
        try:
            await self._runtime.set(path, pem)
        except TargetRefused:
            if is_new:
                await self._runtime.delete(path)
            raise
        await self._runtime.commit(path)

    async def _verify(self, path: str, pem: str) -> None:
        """Look whether a reload came between HAProxy's change and the file's: the new process has the old content."""
        wanted = read_leaf(pem)
        loaded = (await self._runtime.loaded([path])).get(path)
        if wanted != NO_LEAF and (loaded is None or loaded.sha1 != wanted.sha1):
            raise Passing(
                TargetRefused(
                    f"Target {self._settings.name}: HAProxy has another certificate as {path} than was put there a"
                    " moment ago; is it reloaded all the time?",
                    subject=path,
                )
            )

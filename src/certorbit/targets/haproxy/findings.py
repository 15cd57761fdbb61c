"""`certorbit targets check` for HAProxy, and where memory and files differ. Nothing that is served changes."""

from collections.abc import Callable
from functools import partial
from typing import Final

from certorbit.errors import CertorbitError
from certorbit.net.tries import Passing
from certorbit.ports.target import Finding, Grade
from certorbit.target_settings.haproxy import HAProxyListenerTable, HAProxyTargetSettings
from certorbit.targets.files import in_thread
from certorbit.targets.haproxy.clients import read_options
from certorbit.targets.haproxy.disk import Disk
from certorbit.targets.haproxy.material import read_leaf
from certorbit.targets.haproxy.runtime import RuntimeAPI

OLDEST: Final = (2, 4)  # crt-list entries and certificates can both be added at run time, with the words we know


async def find_differences(table: HAProxyListenerTable, *, runtime: RuntimeAPI, disk: Disk) -> list[str]:
    """Return what of ours HAProxy would serve differently after a start, one sentence each."""
    crt_list = table.crt_list
    held = await runtime.entries(crt_list)
    entries = [entry.path for entry in held]
    options = await in_thread(lambda: disk.listed_options(crt_list))
    listed = await in_thread(lambda: disk.listed(table.crt_list))
    serving, starting = set(filter(disk.is_ours, entries)), set(filter(disk.is_ours, listed))
    found = [f"HAProxy serves {path}, which {table.crt_list} doesn't name" for path in sorted(serving - starting)]
    found += [f"{table.crt_list} names {path}, which HAProxy doesn't serve" for path in sorted(starting - serving)]
    for entry in held:
        in_file = options.get(entry.path)
        if disk.is_ours(entry.path) and in_file is not None and read_options(entry.options) != read_options(in_file):
            found.append(f"HAProxy checks the clients of {entry.path} in another way than {crt_list} says")
    if entries and disk.is_ours(entries[0]) and listed[:1] != entries[:1]:
        found.append(f"{entries[0]} is HAProxy's default, but not the first line of {table.crt_list}")
    loaded = await runtime.loaded(sorted(serving))
    for path in sorted(serving | starting):
        text = await in_thread(partial(disk.read, path))
        if text is None:
            found.append(f"{path} is on the list of certificates, but there is no such file")
        elif path in loaded and loaded[path].sha1 != read_leaf(text).sha1:
            found.append(f"{path} holds another certificate than HAProxy serves as it")
    return found


class Checker:
    """One run of the check."""

    def __init__(self, settings: HAProxyTargetSettings, *, runtime: RuntimeAPI, disk: Disk) -> None:
        self._settings = settings
        self._runtime = runtime
        self._disk = disk

    async def run(self) -> list[Finding]:
        findings: list[Finding] = []
        try:
            major, minor, rest = await self._runtime.version()
            if (major, minor) < OLDEST:
                message = f"HAProxy {major}.{minor}{rest}: 2.4 or newer is needed."
                return [Finding("reach", Grade.FAILED, message)]
            findings.append(Finding("reach", Grade.OK, f"HAProxy {major}.{minor}{rest} at {self._settings.socket}."))
            await self._runtime.probe_level()
            findings.append(Finding("admin", Grade.OK, "The socket is of level admin."))
            findings += await self._look_for_transaction()
        except Passing as passing:
            return [*findings, Finding("reach", Grade.FAILED, passing.error.message)]
        except CertorbitError as error:
            return [*findings, Finding("admin" if findings else "reach", Grade.FAILED, error.message)]
        written = await self._try_writing(self._disk.try_writing, self._settings.directory)
        findings.append(written)
        for table in self._settings.listeners:
            if written.grade is Grade.OK:
                findings += await self._try_writing_copies(table)
            findings += await self._check_listener(table)
        return findings

    async def _look_for_transaction(self) -> list[Finding]:
        whose = (await self._runtime.inventory()).transaction
        if not whose or self._disk.is_ours(whose):
            return []
        return [Finding("transaction", Grade.WARNING, self._runtime.foreign_transaction(whose).message)]

    async def _check_listener(self, table: HAProxyListenerTable) -> list[Finding]:
        what = f"read {table.name}"
        try:
            entries = await self._runtime.entries(table.crt_list)
            differences = await find_differences(table, runtime=self._runtime, disk=self._disk)
        except Passing as passing:
            return [Finding(what, Grade.FAILED, passing.error.message)]
        except CertorbitError as error:
            return [Finding(what, Grade.FAILED, error.message)]
        default = self._disk.default_of(table.name)
        if entries and entries[0].path == default:
            message = f"{len(entries)} certificates; its default can be set."
        else:
            message = (
                f"{len(entries)} certificates; its default stays what it is, for the first line of {table.crt_list} is"
                f" not {default}."
            )
        findings = [Finding(what, Grade.OK, message)]
        findings += [
            Finding(what, Grade.WARNING, f"Listener {table.name!r}: {difference}.") for difference in differences
        ]
        return [*findings, await self._try_writing(lambda: self._disk.try_writing_list(table.crt_list), table.crt_list)]

    async def _try_writing_copies(self, table: HAProxyListenerTable) -> list[Finding]:
        """Try the listener's own folder, which the operator may have made; nothing if there is none yet."""
        place = f"{self._disk.directory}/{table.name}"
        try:
            is_there = await in_thread(lambda: self._disk.try_writing_beside(table.name))
        except CertorbitError as error:
            return [Finding("write", Grade.FAILED, error.message)]
        return [Finding("write", Grade.OK, f"{place} can be written.")] if is_there else []

    async def _try_writing(self, write: Callable[[], None], place: str) -> Finding:
        try:
            await in_thread(write)
        except CertorbitError as error:
            return Finding("write", Grade.FAILED, error.message)
        return Finding("write", Grade.OK, f"{place} can be written.")

"""Client certificates at HAProxy: options of a copy's line in the crt-list, and the CA and CRL files that they name.

    <directory>/<listener>/<config>.<entry>.clients         the options of the copy's line, kept while it is detached
    <directory>/<listener>/<config>.<entry>.<digest>.ca     the CAs, <digest>: of the whole policy
    <directory>/<listener>/<config>.<entry>.<digest>.crl    their revocation lists

A line can't be changed in place. So another policy has other files and a second line, which HAProxy uses when the
first one is deleted: CAs, lists and mode change in one step, and there is no moment without a check.
"""

import re
from functools import partial
from itertools import pairwise
from typing import Final

import structlog

from certorbit.errors import TargetRefused
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.site import ClientCertificateMode
from certorbit.net.tries import Passing
from certorbit.target_settings.haproxy import HAProxyListenerTable
from certorbit.targets.files import in_thread
from certorbit.targets.haproxy.disk import Disk
from certorbit.targets.haproxy.runtime import ListKind, RuntimeAPI

log = structlog.get_logger(__name__)

OLDEST: Final = (2, 5)  # CA and CRL files by the runtime API
_DIGITS: Final = 16  # of the digest, in file names
_VERIFY: Final = {ClientCertificateMode.ON: "required", ClientCertificateMode.OPTIONAL: "optional"}
_LIST_FILE = re.compile(rf"\.[0-9a-f]{{{_DIGITS}}}\.(ca|crl)")
_LISTS: Final = (ListKind.CA, ListKind.CRL)


class Clients:
    """Who is let in, for the copies of one target. All methods run under the lock of the target."""

    def __init__(self, *, target: str, runtime: RuntimeAPI, disk: Disk) -> None:
        self._target = target
        self._runtime = runtime
        self._disk = disk

    def options(self, handle: str) -> str:
        """Return the options that the copy's line has to have; "": none. Blocking."""
        return (self._disk.read(_note_of(handle)) or "").strip()

    async def set(self, listener: HAProxyListenerTable, handle: str, policy: ClientPolicy | None) -> None:
        """Put the policy into force for the copy: at once if it is on the list, else when it comes on it.

        Raises:
            TargetRefused: it is the default certificate, HAProxy is too old, or takes the CAs or lists for bad.
        """
        wanted = ""
        if policy is not None:
            await self._check_possible(listener, handle)
            wanted = await self._load(listener, handle, policy)
            await in_thread(lambda: self._disk.write(_note_of(handle), f"{wanted}\n"))
        await self._swap_line(listener, handle, wanted)
        if policy is None:
            await in_thread(lambda: self._disk.delete(_note_of(handle)))
        await self._sweep(handle, keep=wanted)

    async def forget(self, handle: str) -> None:
        """Delete all that belongs to a copy which no list has any more."""
        await in_thread(lambda: self._disk.delete(_note_of(handle)))
        await self._sweep(handle, keep="")

    async def _check_possible(self, listener: HAProxyListenerTable, handle: str) -> None:
        version = await self._runtime.version()
        if version[:2] < OLDEST:
            raise TargetRefused(
                f"Target {self._target}: HAProxy {version[0]}.{version[1]} can't be given CAs for client certificates"
                " while it runs; 2.5 or newer is needed.",
                subject=self._target,
            )
        if await in_thread(lambda: self._disk.default_handle(listener.name)) == handle:
            raise self.refuse_default(listener, handle)

    def refuse_default(self, listener: HAProxyListenerTable, handle: str) -> TargetRefused:
        """Return why a copy with a policy can't be the default: HAProxy never gives up the first line of a list."""
        return TargetRefused(
            f"Target {self._target}, listener {listener.name!r}: the clients of {handle} are to be checked, which"
            " HAProxy can't begin or end for its default certificate while it runs. Make another one the default.",
            subject=listener.name,
        )

    async def _load(self, listener: HAProxyListenerTable, handle: str, policy: ClientPolicy) -> str:
        """Give HAProxy the CAs and lists, then write them down for its next start. Returns: the line's options.

        What a line of the copy names HAProxy has already. It isn't committed once more: HAProxy 2.6.12 crashes on that
        some time after the copy's certificate was renewed (a use after free; tests/targets/test_haproxy_renewals.py).
        """
        entries = await self._runtime.entries(listener.crt_list)
        there = {path for one in entries if one.path == handle for path in read_options(one.options).values()}
        words = ["verify", _VERIFY[policy.mode]]
        for kind, text in zip(_LISTS, (policy.ca_pem, policy.crl_pem), strict=True):
            if not text:
                continue
            path = f"{_stem_of(handle)}.{policy.digest[:_DIGITS]}.{kind.value}"
            # An empty line would end the payload in the middle (HAProxy's management guide, 9.3).
            pem = "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())
            if path not in there:
                await self._fill(kind, path, pem)
            await in_thread(partial(self._disk.write, path, pem))
            words += [kind.option, path]
        return " ".join(words)

    async def _fill(self, kind: ListKind, path: str, pem: str) -> None:
        whose = await self._runtime.list_transaction(kind)
        if whose and not self._disk.is_inside(whose):
            raise Passing(self._runtime.foreign_transaction(whose))
        if whose:  # who opened it is dead, for we hold the lock
            await self._runtime.abort_list(kind, whose)
        await self._runtime.fill_list(kind, path, pem)

    async def _swap_line(self, listener: HAProxyListenerTable, handle: str, wanted: str) -> None:
        """Let the copy's lines be one with these options, in HAProxy and in the file, if it has any."""
        mine = [entry for entry in await self._runtime.entries(listener.crt_list) if entry.path == handle]
        others = [entry for entry in mine if read_options(entry.options) != read_options(wanted)]
        if mine and len(others) == len(mine):
            await self._runtime.add_entry(listener.crt_list, handle, options=wanted)
        await in_thread(lambda: self._disk.rewrite_line(listener.crt_list, handle, options=wanted))
        for entry in others:
            await self._runtime.delete_entry(listener.crt_list, entry)
        if mine:
            log.info("haproxy.clients_checked", target=self._target, listener=listener.name, handle=handle, by=wanted)

    async def _sweep(self, handle: str, *, keep: str) -> None:
        """Delete the copy's CA and CRL files that its line doesn't name."""
        kept = set(read_options(keep).values())
        for path in await in_thread(lambda: self._disk.beside(handle)):
            match = _LIST_FILE.fullmatch(path.removeprefix(_stem_of(handle)))
            if match is not None and path not in kept:
                await self._runtime.delete_list(ListKind(match[1]), path)
                await in_thread(partial(self._disk.delete, path))


def read_options(text: str) -> dict[str, str]:
    """Return the options of a line that are about clients, by name, with or without the brackets around them."""
    words = text.strip("[] ").split()
    names = {"verify", *(kind.option for kind in _LISTS)}
    found = {name: value for name, value in pairwise(words) if name in names}
    return {} if found == {"verify": "none"} else found


def _stem_of(handle: str) -> str:
    return handle.removesuffix(".pem")


def _note_of(handle: str) -> str:
    return f"{_stem_of(handle)}.clients"

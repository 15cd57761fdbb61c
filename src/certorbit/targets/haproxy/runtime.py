"""HAProxy's runtime API over its unix or TCP socket: one connection per command, answers in our own terms.

Changes of certificates go through a transaction, and HAProxy has room for one of them: `set ssl cert` while another
certificate's transaction is open changes that other one (2.6), or is refused (newer). So what is set is checked by
the name in the answer, and callers hold the target's lock (`files.locked`).
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import structlog

from certorbit.errors import CredentialsRefused, TargetGone, TargetRefused, Unreachable
from certorbit.net.tries import Passing
from certorbit.target_settings.table import split_address
from certorbit.targets.haproxy.answers import (
    Inventory,
    ListEntry,
    Loaded,
    check_permission,
    is_success,
    read_entries,
    read_inventory,
    read_loaded,
    read_transaction,
)
from certorbit.targets.words import show_words

log = structlog.get_logger(__name__)

LONGEST_ANSWER: Final = 64 * 1024 * 1024  # bytes; a list of 100,000 certificates fits
_AT_ONCE: Final = 30  # `show ssl cert` on one line, which must fit in the buffer (16 KiB) with paths of 430
_FULL_BUFFER: Final = 15_000  # characters; tune.bufsize is 16384 unless haproxy.cfg says more
_LOCKED: Final = "Operations on certificates are currently locked"
_VERSION = re.compile(r"^Version: (\d+)\.(\d+)(\S*)", re.MULTILINE)


class ListKind(StrEnum):
    """What of client certificates HAProxy keeps by files. The value is our files' ending."""

    CA = "ca"
    CRL = "crl"

    @property
    def option(self) -> str:
        return f"{self.value}-file"


class RuntimeAPI:
    """The commands that we use. Every method raises Unreachable (as Passing) and CredentialsRefused."""

    def __init__(self, *, target: str, socket: str, timeout_seconds: float) -> None:
        self._target = target
        self._socket = socket
        self._timeout = timeout_seconds
        # HAProxy refuses a command about certificates while one of its other threads is at such a command: ours don't
        # get in each other's way.
        self._turn = asyncio.Lock()

    async def version(self) -> tuple[int, int, str]:
        """Return major, minor and the rest of the version's text."""
        answer = await self._ask("show info")
        match = _VERSION.search(answer)
        if match is None:
            raise self._refuse("show info", answer)
        return int(match[1]), int(match[2]), match[3]

    async def probe_level(self) -> None:
        """Raise CredentialsRefused unless the socket may change certificates. path of no certificate: no change."""
        await self._ask("abort ssl cert /certorbit/level")

    async def inventory(self) -> Inventory:
        answer = await self._ask("show ssl cert")
        inventory = read_inventory(answer)
        if inventory is None:
            raise self._refuse("show ssl cert", answer)
        return inventory

    async def loaded(self, paths: Sequence[str]) -> dict[str, Loaded]:
        """Return what HAProxy has in memory under these paths; what it doesn't have is left out."""
        found: dict[str, Loaded] = {}
        for start in range(0, len(paths), _AT_ONCE):
            commands = [f"show ssl cert {path}" for path in paths[start : start + _AT_ONCE]]
            found.update(read_loaded(await self._ask("; ".join(commands))))
        return found

    async def create(self, path: str) -> None:
        """Make an empty place for a certificate; one that is there stays as it is."""
        answer = await self._ask(f"new ssl cert {path}")
        if not answer.startswith("New empty certificate store") and "already exists" not in answer:
            raise self._refuse("new ssl cert", answer, path=path)

    async def set(self, path: str, pem: str) -> None:
        """Open the certificate's transaction with this content. HAProxy has parsed it then; nothing is served yet.

        Raises:
            TargetRefused: it can't be loaded. Or, passing, another transaction came between.
        """
        answer = await self._ask(f"set ssl cert {path}", payload=pem)
        changed = read_transaction(answer)
        if changed == path:
            return
        if changed:
            # Our content went into a transaction that somebody else opened a moment ago (2.6). Left alone it would be
            # committed under their name.
            log.warning("haproxy.transaction_aborted", target=self._target, certificate=changed)
            await self.abort(changed)
        elif "ongoing transaction" not in answer:
            await self.abort(path)
            raise self._refuse("set ssl cert", answer, path=path)
        raise Passing(self.foreign_transaction(changed or show_words(answer)))

    async def commit(self, path: str) -> None:
        """Serve what the transaction has. A refusal leaves what was served before, and no transaction."""
        answer = await self._ask(f"commit ssl cert {path}")
        if is_success(answer):
            return
        error = self._refuse("commit ssl cert", answer, path=path)
        if "No ongoing transaction" in answer:
            raise Passing(error)  # a reload took place since `set`
        await self.abort(path)
        raise error

    async def abort(self, path: str) -> None:
        """Drop the certificate's transaction; harmless if there is none."""
        await self._ask(f"abort ssl cert {path}")

    async def delete(self, path: str) -> None:
        """Drop a certificate that no list has. Harmless if it is gone.

        Raises:
            TargetRefused: it is in use.
        """
        answer = await self._ask(f"del ssl cert {path}")
        if "' deleted!" not in answer and "doesn't exist" not in answer:
            raise self._refuse("del ssl cert", answer, path=path)

    async def crt_lists(self) -> frozenset[str]:
        return frozenset(line for line in (await self._ask("show ssl crt-list")).splitlines() if line)

    async def entries(self, crt_list: str) -> list[ListEntry]:
        """Return the list's entries in order. Raises TargetGone: HAProxy has no list of this name."""
        answer = await self._ask(f"show ssl crt-list -n {crt_list}")
        if "didn't find the specified filename" in answer:
            raise TargetGone(
                f"Target {self._target}: HAProxy has no crt-list {crt_list}; a `bind` line must name it by just this"
                " path, and HAProxy be reloaded once.",
                subject=crt_list,
            )
        entries = read_entries(answer, crt_list=crt_list)
        if entries is None:
            raise self._refuse("show ssl crt-list", answer, path=crt_list)
        return entries

    async def add_entry(self, crt_list: str, path: str, *, options: str = "") -> None:
        """Serve the certificate at the list's binds. A repeat would make a second entry: look first."""
        if options:
            answer = await self._ask(f"add ssl crt-list {crt_list}", payload=f"{path} [{options}]\n")
        else:
            answer = await self._ask(f"add ssl crt-list {crt_list} {path}")
        if not is_success(answer):
            raise self._refuse("add ssl crt-list", answer, path=path)

    async def delete_entry(self, crt_list: str, entry: ListEntry) -> None:
        """Take one entry off the list. Raises TargetRefused: it is the default certificate of a bind."""
        answer = await self._ask(f"del ssl crt-list {crt_list} {entry.path}:{entry.line}")
        if " deleted in crtlist " not in answer:
            raise self._refuse("del ssl crt-list", answer, path=entry.path)

    async def list_transaction(self, kind: ListKind) -> str:
        """Return the path of the CA or CRL file whose transaction is open, "" if none; there is room for one."""
        answer = await self._ask(f"show ssl {kind.option}")
        return next((line[1:].split(" - ")[0] for line in answer.splitlines() if line.startswith("*")), "")

    async def abort_list(self, kind: ListKind, path: str) -> None:
        await self._ask(f"abort ssl {kind.option} {path}")

    async def fill_list(self, kind: ListKind, path: str, pem: str) -> None:
        """Make this the content of a CA or CRL file in memory, a new one or one that is there.

        Raises:
            TargetRefused: HAProxy can't read it, or it doesn't fit in its buffer.
        """
        answer = await self._ask(f"new ssl {kind.option} {path}")
        if not answer.startswith("New ") and "already exists" not in answer:
            raise self._refuse(f"new ssl {kind.option}", answer, path=path)
        answer = await self._ask(f"set ssl {kind.option} {path}", payload=pem)
        if (
            not answer.lower().startswith(("transaction created for ", "transaction updated for "))
            or path not in answer
        ):
            await self.abort_list(kind, path)
            raise self._refuse(f"set ssl {kind.option}", answer, path=path)
        answer = await self._ask(f"commit ssl {kind.option} {path}")
        if not is_success(answer):
            await self.abort_list(kind, path)
            raise self._refuse(f"commit ssl {kind.option}", answer, path=path)

    async def delete_list(self, kind: ListKind, path: str) -> None:
        """Drop a CA or CRL file that no line names. Harmless if it is gone; one that is in use stays."""
        await self._ask(f"del ssl {kind.option} {path}")

    def foreign_transaction(self, whose: str) -> TargetRefused:
        return TargetRefused(
            f"Target {self._target}: HAProxy has an open transaction that isn't ours ({whose}); it has room for one."
            " Commit it, or drop it with `abort ssl cert <path>` on its socket.",
            subject=self._target,
        )

    def _refuse(self, command: str, answer: str, *, path: str = "") -> TargetRefused:
        place = f" for {path}" if path else ""
        return TargetRefused(
            f"Target {self._target}: HAProxy refused `{command}`{place}: {show_words(answer) or 'no answer'}",
            subject=path or self._target,
        )

    async def _ask(self, command: str, *, payload: str = "") -> str:
        # "<<" starts a payload, the first empty line ends it (management guide, 9.3).
        sent = f"{command} <<\n{payload}\n" if payload else f"{command}\n"
        words = " ".join(command.split()[:3])
        phase = "connect"
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                reader, writer = await self._connect()
                phase = "read"
                try:
                    answer = await self._exchange(reader, writer, sent)
                finally:
                    writer.close()
        except PermissionError as error:
            raise CredentialsRefused(
                f"Target {self._target}: we may not open {self._socket}: give our user the right (`stats socket …"
                " user … group … mode 660`).",
                subject=self._socket,
            ) from error
        except (OSError, TimeoutError) as error:
            phase = "resolve" if isinstance(error, socket.gaierror) else phase
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise Passing(self._unreachable(words, reason, phase=phase)) from error
        if not answer and payload and len(sent) > _FULL_BUFFER:
            raise TargetRefused(
                f"Target {self._target}: HAProxy hung up on {len(sent)} characters in one command; its buffer is"
                " too small: set `tune.bufsize` in haproxy.cfg to twice that, and restart it.",
                subject=self._target,
            )
        if not answer:
            raise Passing(self._unreachable(words, "it hung up", phase=phase))
        text = answer.decode("utf-8", "replace").replace("\0", "")
        check_permission(text, command=words, target=self._target)
        if _LOCKED in text:
            raise Passing(self._refuse(words, text))  # another command is at it, on another of HAProxy's threads
        return text

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._socket.startswith("/"):
            return await asyncio.open_unix_connection(self._socket)
        host, port = split_address(self._socket, 0)
        return await asyncio.open_connection(host, port)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: str) -> bytes:
        answer = bytearray()
        try:
            writer.write(sent.encode())
            await writer.drain()
            while chunk := await reader.read(65536):
                answer += chunk
                if len(answer) > LONGEST_ANSWER:
                    raise TargetRefused(
                        f"Target {self._target}: an answer of more than {LONGEST_ANSWER} bytes; is {self._socket}"
                        " HAProxy's socket?",
                        subject=self._socket,
                    )
        except ConnectionError:
            # HAProxy closes with our bytes unread when they don't fit; what it had answered until then counts.
            log.info("haproxy.connection_reset", target=self._target, received=len(answer))
        return bytes(answer)

    def _unreachable(self, command: str, reason: str, *, phase: str) -> Unreachable:
        return Unreachable(
            f"Target {self._target}: no answer from HAProxy at {self._socket} to `{command}`: {reason}.",
            subject=self._socket,
            phase=phase,
        )

"""Debian's HAProxy on loopback, in master-worker mode: N TLS listeners, each with its port, crt-list and default.

async with start_haproxy(tmp_path, listeners=2) as haproxy:
    target = make_target(settings_for(haproxy))
"""

import asyncio
import os
import shutil
import signal
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from certorbit.target_settings.haproxy import HAProxyListenerTable, HAProxyTargetSettings
from e2e.service import free_port
from make import make_chain
from programs import require_program

ADDRESS = "127.0.0.1"
PLACEHOLDER = "placeholder.invalid"
READY_SECONDS = 30.0
ANSWER_SECONDS = 2.0
MOST_STARTS = 3  # a port that was free may be taken a moment later

CONFIG = """\
global
    stats socket {socket} mode 600 level admin expose-fd listeners
    stats socket {user_socket} mode 600 level user
    stats socket ipv4@{address}:{admin_port} level admin
    nbthread 2
    tune.bufsize {bufsize}
defaults
    mode http
    timeout client 30s
    timeout connect 5s
    timeout server 30s
"""
FRONTEND = """\
frontend {name}
    bind {address}:{port} ssl {options} crt-list {crt_list}
    http-request return status 200 content-type text/plain string ok
"""


class HAProxyNotReady(Exception):
    """HAProxy did not start, or did not come to the wanted state in time; the text has its own words."""


@dataclass(frozen=True)
class TLSListener:
    name: str
    port: int
    crt_list: str


@dataclass(kw_only=True)
class RunningHAProxy:
    """A running HAProxy. `stop()` ends it and all of its workers; nothing else is touched.

    directory: the certificate folder. user_socket: of level user. admin_address: the runtime API by TCP.
    placeholder: fingerprint of the leaf that every listener's default file has at first.
    """

    socket: str
    user_socket: str
    admin_address: str
    listeners: Sequence[TLSListener]
    directory: str
    config: Path
    placeholder: str
    log: Path
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Start it and wait until its runtime API answers. Raises HAProxyNotReady."""
        program = require_program("haproxy")
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program, "-W", "-f", str(self.config), stdout=log, stderr=log, start_new_session=True
            )
        await self._wait(lambda: self._has_other_worker(""))

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), READY_SECONDS)
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def restart(self) -> None:
        """Stop and start: what is served then comes from the files alone."""
        await self.stop()
        await self.start()

    async def reload(self) -> None:
        """Let the master start a new worker beside the old one (SIGUSR2); return when the new one answers."""
        old = await self.worker()
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2)
        await self._wait(lambda: self._has_other_worker(old))

    async def worker(self) -> str:
        """Return the process id of the worker that answers; "" if none does."""
        try:
            # A connection that waits in the backlog of a worker which is just ending is never answered.
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self.ask("show info")
        except (OSError, TimeoutError):
            return ""
        return next((line[5:] for line in answer.splitlines() if line.startswith("Pid: ")), "")

    async def ask(self, command: str, payload: str = "") -> str:
        """Send a command to the runtime API, as another program would."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        writer.write((f"{command} <<\n{payload}\n" if payload else f"{command}\n").encode())
        answer = await reader.read()
        writer.close()
        return answer.decode()

    async def _has_other_worker(self, old: str) -> bool:
        process = self._process
        if process is None or process.returncode is not None:
            raise HAProxyNotReady(self.log.read_text()[-2000:])
        return await self.worker() not in {"", old}

    async def _wait(self, is_done: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await is_done():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise HAProxyNotReady(self.log.read_text()[-2000:]) from None


@asynccontextmanager
async def start_haproxy(
    folder: Path, *, listeners: int = 2, options: str = "", first_lines: Sequence[str] = (), bufsize: int = 16384
) -> AsyncIterator[RunningHAProxy]:
    """Run HAProxy with listeners `https-1` … in the folder until the block ends.

    options: more words for every `bind` line (`strict-sni`). first_lines: contents of the crt-lists, by listener,
    in place of the line that names the listener's own default file.
    """
    short = Path(tempfile.mkdtemp(prefix="haproxy-"))  # a unix socket's path has 107 bytes at most
    running: RunningHAProxy | None = None
    try:
        for start in range(MOST_STARTS):
            running = _lay_out(
                folder, short, listeners=listeners, options=options, first_lines=first_lines, bufsize=bufsize
            )
            try:
                await running.start()
                break
            except HAProxyNotReady:
                await running.stop()
                if start + 1 == MOST_STARTS:
                    raise
        assert running is not None
        yield running
    finally:
        if running is not None:
            await running.stop()
        shutil.rmtree(short)


def _lay_out(
    folder: Path, short: Path, *, listeners: int, options: str, first_lines: Sequence[str], bufsize: int
) -> RunningHAProxy:
    directory = folder / "certs"
    directory.mkdir(exist_ok=True)
    chain = make_chain(names=[PLACEHOLDER], key_index=99, now=datetime.now(UTC))
    ports = _free_ports(listeners + 1)
    text = CONFIG.format(
        socket=short / "admin.sock",
        user_socket=short / "user.sock",
        address=ADDRESS,
        admin_port=ports[0],
        bufsize=bufsize,
    )
    made = []
    for number, port in enumerate(ports[1:]):
        name = f"https-{number + 1}"
        crt_list = folder / f"{name}.crtlist"
        default = directory / name / "default.pem"
        default.parent.mkdir(exist_ok=True)
        default.write_text(chain.chain_pem + chain.key_pem)
        crt_list.write_text(first_lines[number] if number < len(first_lines) else f"{default}\n")
        made.append(TLSListener(name, port, str(crt_list)))
        text += FRONTEND.format(name=name, address=ADDRESS, port=port, options=options, crt_list=crt_list)
    config = folder / "haproxy.cfg"
    config.write_text(text)
    return RunningHAProxy(
        socket=str(short / "admin.sock"),
        user_socket=str(short / "user.sock"),
        admin_address=f"{ADDRESS}:{ports[0]}",
        listeners=tuple(made),
        directory=str(directory),
        config=config,
        placeholder=sha256(ssl.PEM_cert_to_DER_cert(chain.leaf_pem)).hexdigest(),
        log=folder / "haproxy.log",
    )


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        port = free_port()
        if port not in ports:
            ports.append(port)
    return ports


def settings_for(haproxy: RunningHAProxy, *, name: str = "edge", **changed: object) -> HAProxyTargetSettings:
    """Return the `[[targets]]` table for it. changed: fields with other values."""
    fields: dict[str, object] = {
        "type": "haproxy",
        "name": name,
        "socket": haproxy.socket,
        "directory": haproxy.directory,
        "host": ADDRESS,
        "listeners": tuple(
            HAProxyListenerTable(
                name=listener.name,
                port=listener.port,
                addresses=(f"{ADDRESS}:{listener.port}",),
                crt_list=listener.crt_list,
            )
            for listener in haproxy.listeners
        ),
    }
    return HAProxyTargetSettings.model_validate(fields | changed)


def anyone() -> ssl.SSLContext:
    """Return a context that accepts every certificate (the standard one loads all CAs first, 30 ms)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def shake_hands(port: int, name: str = "") -> str:
    """Return the fingerprint (SHA-256) of the leaf that is served for the name ("": without SNI); "" if none is."""
    try:
        # An IP address as host: then no SNI is sent.
        _, writer = await asyncio.open_connection(ADDRESS, port, ssl=anyone(), server_hostname=name or None)
    except (ssl.SSLError, ConnectionError):
        return ""
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    der = tls.getpeercert(binary_form=True) or b""
    writer.transport.abort()
    return sha256(der).hexdigest()

"""A real HAProxy, and what else stands at the edge, for tests that don't run in an event loop."""

import asyncio
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from e2e.service import free_port, wait_until
from make import make_chain
from programs import require_program
from targets.haproxy_process import ADDRESS, RunningHAProxy, start_haproxy

TIMEOUT = 10.0  # seconds of a handshake


def shake_hands(port: int, name: str = "") -> str:
    """Return the fingerprint of the leaf that is served for the name ("": without SNI). Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((ADDRESS, port), timeout=TIMEOUT) as connection,
        context.wrap_socket(connection, server_hostname=name or None) as tls,
    ):
        return sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


@dataclass
class Edge:
    """HAProxy with listeners `https-1` …"""

    haproxy: RunningHAProxy
    _runner: asyncio.Runner = field(repr=False)

    def port(self, listener: str) -> int:
        return next(one.port for one in self.haproxy.listeners if one.name == listener)

    def served(self, listener: str, name: str = "") -> str:
        """Return the fingerprint of what the listener serves for the name."""
        return shake_hands(self.port(listener), name)

    def held(self, listener: str) -> list[str]:
        """Return the certificates' paths on the listener, by HAProxy's own word."""
        crt_list = next(one.crt_list for one in self.haproxy.listeners if one.name == listener)
        lines = self.ask(f"show ssl crt-list {crt_list}").splitlines()
        return [line.split()[0] for line in lines if line.startswith("/")]

    def ask(self, command: str) -> str:
        """Send a command to the runtime API, as another program would."""
        return self._runner.run(self.haproxy.ask(command))

    def take_off(self, listener: str, path: str) -> None:
        """Take a certificate off the listener's list, as somebody else would: in HAProxy and in the file."""
        crt_list = next(one.crt_list for one in self.haproxy.listeners if one.name == listener)
        self.ask(f"del ssl crt-list {crt_list} {path}")
        kept = [line for line in Path(crt_list).read_text().splitlines(keepends=True) if not line.startswith(path)]
        Path(crt_list).write_text("".join(kept))
        assert path not in self.held(listener)

    def stop(self) -> None:
        self._runner.run(self.haproxy.stop())

    def start(self) -> None:
        self._runner.run(self.haproxy.start())


@contextmanager
def running_edge(folder: Path, *, listeners: int) -> Iterator[Edge]:
    """Run HAProxy until the block ends. Between calls nobody runs the loop; HAProxy doesn't need it."""
    folder.mkdir(parents=True, exist_ok=True)
    # A loop of its own, so that the thread's current loop stays pytest-asyncio's.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        haproxy = runner.run(stack.enter_async_context(start_haproxy(folder, listeners=listeners)))
        try:
            yield Edge(haproxy, runner)
        finally:
            runner.run(stack.aclose())


class _Forward(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Pass bytes on in both directions until one side ends."""
        assert isinstance(self.server, Crossing)
        with suppress(OSError), socket.create_connection((ADDRESS, self.server.leads_to), timeout=TIMEOUT) as onward:
            back = threading.Thread(target=_pump, args=(onward, self.request), daemon=True)
            back.start()
            _pump(self.request, onward)
            back.join(TIMEOUT)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Crossing(socketserver.ThreadingTCPServer):
    """A port that leads to another port, now this one and then that one: a load balancer's public address.

    A stand-in for what stands before listeners and goes astray: a NAT rule, a forgotten process.
    """

    daemon_threads = True

    def __init__(self, leads_to: int) -> None:
        super().__init__((ADDRESS, 0), _Forward)
        self.leads_to = leads_to

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextmanager
def crossing(leads_to: int) -> Iterator[Crossing]:
    with Crossing(leads_to) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(TIMEOUT)


@contextmanager
def somebody_elses_server(folder: Path) -> Iterator[int]:
    """Run a plain `openssl s_server` with a certificate that isn't ours; give its port."""
    chain = make_chain(names=["somebody-else.invalid"], key_index=98, now=datetime.now(UTC))
    pem = folder / "somebody-else.pem"
    pem.write_text(chain.chain_pem + chain.key_pem)
    port = free_port()
    process = subprocess.Popen(
        [require_program("openssl"), "s_server", "-accept", f"{ADDRESS}:{port}", "-cert", pem, "-key", pem, "-quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _answers(port), seconds=20, what="s_server answers")
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _answers(port: int) -> bool:
    try:
        return bool(shake_hands(port))
    except OSError:
        return False

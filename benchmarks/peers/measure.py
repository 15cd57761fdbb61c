"""What a benchmark of one client needs to know and what it gives."""

import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from processes import cpu_seconds


@dataclass(frozen=True, slots=True)
class CA:
    """A Pebble of one's own. pid: its process; http01_port: where it looks for the answers to HTTP-01."""

    directory_url: str
    ca_bundle: Path
    http01_port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Result:
    """certificates: how many were measured. The CPU is of the client (all of its processes) and of the CA."""

    certificates: int
    seconds: float
    client_cpu_seconds: float
    ca_cpu_seconds: float
    at_once: int

    def as_json(self) -> dict[str, float | int]:
        return {
            "certs_per_s": round(self.certificates / self.seconds, 2),
            "cpu_ms_per_cert": round(1000 * self.client_cpu_seconds / self.certificates, 1),
            "ca_cpu_ms_per_cert": round(1000 * self.ca_cpu_seconds / self.certificates, 1),
            "certificates": self.certificates,
            "seconds": round(self.seconds, 2),
            "at_once": self.at_once,
        }


class Stopwatch:
    """Reads the time and the CPU of client and CA from its making on."""

    def __init__(self, ca: CA, *, client_cpu: Callable[[], float]) -> None:
        self._ca = ca
        self._client_cpu = client_cpu
        self._client_before = client_cpu()
        self._ca_before = cpu_seconds(ca.pid)
        self._began = time.perf_counter()

    def stop(self, *, certificates: int, at_once: int) -> Result:
        seconds = time.perf_counter() - self._began
        return Result(
            certificates=certificates,
            seconds=seconds,
            client_cpu_seconds=self._client_cpu() - self._client_before,
            ca_cpu_seconds=cpu_seconds(self._ca.pid) - self._ca_before,
            at_once=at_once,
        )


def ended_children_cpu() -> float:
    """Return the CPU seconds of all children of ours that ended: for clients that are one process per certificate."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_each(run: Callable[[int, str], None], *, names: list[str], at_once: int) -> None:
    """Call `run(lane, name)` for every name, in `at_once` lanes; a lane does one at a time."""

    def work(lane: int) -> None:
        for name in names[lane::at_once]:
            run(lane, name)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, range(at_once)))


def run_program(command: list[str | Path], *, environment: dict[str, str]) -> None:
    """Run a client once; fail with what it said."""
    result = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
    )
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} failed with {result.returncode}:\n{(result.stdout + result.stderr)[-2000:]}")


@contextmanager
def webroot(folder: Path, *, port: int) -> Iterator[None]:
    """Serve the folder's files: the web server that users of webroot mode have."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is the library's
            pass

    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()

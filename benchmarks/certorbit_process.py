"""A real `certorbit serve` process for a benchmark: fresh data on SQLite, a free port, one administrator's key."""

import contextlib
import os
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from processes import running, wait_until

CERTORBIT = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "certorbit"


@dataclass(frozen=True, slots=True)
class Service:
    address: str
    api_key: str
    pid: int

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Basic {self.api_key}"}

    def certificate(self, entry: str) -> str:
        return f"{self.address}/api/v4.3/conf/prod/certificates/{entry}"


@contextlib.contextmanager
def serving(folder: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Run the service with these CERTORBIT_ settings (named without the prefix) for as long as the block lasts."""
    port = free_port()
    api_key = secrets.token_urlsafe(32)
    wanted = {"DATA_DIR": str(folder / "data"), "BOOTSTRAP_API_KEY": api_key, "LOG_LEVEL": "warning"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
    environment |= {f"CERTORBIT_{name}": value for name, value in {**wanted, **(settings or {})}.items()}
    log = folder / "service.log"
    command: list[str | Path] = [CERTORBIT, "serve", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, log=log, environment=environment, folder=folder) as process:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: _is_ready(process, address, log), seconds=60, what="the service's start", log=log)
        yield Service(address, api_key, process.pid)


def _is_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"the service ended at its start:\n{log.read_text(errors='replace')[-2000:]}")
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

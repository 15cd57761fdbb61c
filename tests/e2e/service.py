"""A real `certorbit` process on loopback, and a small client for it."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

API_KEY = "co_test-key-of-the-end-to-end-suite"
BASE = "/api/v4.3/conf/prod/certificates"


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Requests with the test's API key. Errors are answers, not exceptions."""

    url: str
    key: str = API_KEY
    timeout: float = 40.0
    trust: ssl.SSLContext | None = None  # for https: whom it trusts, and what it shows of itself

    def request(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        if self.key:
            request.add_header("Authorization", f"Basic {self.key}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout, context=self.trust) as response:
                return Answer(response.status, response.read(), dict(response.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), dict(error.headers))

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def generate(self, entry_id: str, *domains: str, **body: object) -> Answer:
        query = urllib.parse.urlencode([("domains", name) for name in domains])
        return self.request("POST", f"{BASE}/{entry_id}?{query}", body or None)

    def upload(self, entry_id: str, cert_pem: str, key_pem: str) -> Answer:
        return self.request("POST", f"{BASE}/{entry_id}", {"cert_body": cert_pem, "private_key": key_pem})

    def delete(self, entry_id: str) -> Answer:
        return self.request("DELETE", f"{BASE}/{entry_id}")

    def certificate(self, entry_id: str) -> Answer:
        return self.get(f"{BASE}/{entry_id}")

    def certificates(self) -> list[dict[str, Any]]:
        answer = self.get(BASE)
        assert answer.status == 200, answer.body
        items: list[dict[str, Any]] = answer.json["items"]
        return items

    def wait_issued(self, entry_id: str, *, seconds: float = 60.0) -> None:
        """Return when the entry has its certificate."""
        wait_until(lambda: self.certificate(entry_id).json["cert_body"], seconds=seconds, what=f"{entry_id} issued")

    def with_key(self, key: str) -> "Client":
        """The same service for another caller; "" for nobody."""
        return replace(self, key=key)

    def operations(self, entry_id: str) -> list[dict[str, Any]]:
        answer = self.get(f"/api/certorbit/v1/operations?entry={entry_id}")
        assert answer.status == 200, answer.body
        items: list[dict[str, Any]] = answer.json["items"]
        return items

    def operation(self, operation_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/certorbit/v1/operations/{operation_id}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found


@dataclass
class Service:
    """One `certorbit` process with its log. Stops only what it started."""

    data_dir: Path
    environment: dict[str, str]
    command: tuple[str, ...] = ("serve",)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    lines: list[dict[str, Any]] = field(default_factory=list, repr=False)
    text: list[str] = field(default_factory=list, repr=False)
    _news: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _follower: threading.Thread | None = field(default=None, repr=False)

    @property
    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}")

    def start(self, *, wait_ready: bool = True) -> "Service":
        arguments = [sys.executable, "-m", "certorbit", *self.command]
        if self.command[0] == "serve":
            arguments += ["--port", str(self.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
        environment |= {
            "CERTORBIT_DATA_DIR": str(self.data_dir),
            "CERTORBIT_BOOTSTRAP_API_KEY": API_KEY,
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }
        self.process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.data_dir
        )
        self._follower = threading.Thread(target=self._follow, args=(self.process,), daemon=True)
        self._follower.start()
        if wait_ready:
            self.wait_ready()
        return self

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._news:
                self.text.append(line)
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {"event": "", "text": line}
                self.lines.append(event if isinstance(event, dict) else {"event": ""})
                self._news.notify_all()
        process.stdout.close()

    def wait_ready(self, *, seconds: float = 60.0) -> None:
        """Return when the service is ready. A worker says so in its log, a server at /readyz."""
        if self.command[0] != "serve":
            self.wait_event("worker.ready", seconds=seconds)
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, "".join(self.text[-30:])
            try:
                if self.client.get("/readyz").status == 200:
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            with self._news:
                self._news.wait(0.05)
        raise AssertionError("not ready: " + "".join(self.text[-30:]))

    def wait_event(self, event: str, *, count: int = 1, seconds: float = 60.0) -> dict[str, Any]:
        """Return the count-th log line of this event."""
        with self._news:
            ok = self._news.wait_for(lambda: self._count(event) >= count, timeout=seconds)
            assert ok, f"no {event}: " + "".join(self.text[-30:])
            return [line for line in self.lines if line.get("event") == event][count - 1]

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of this event so far, of all runs."""
        with self._news:
            return [line for line in self.lines if line.get("event") == event]

    def log_text(self) -> str:
        """Return all that was written so far, of all runs."""
        with self._news:
            return "".join(self.text)

    def _count(self, event: str) -> int:
        return sum(line.get("event") == event for line in self.lines)

    def kill(self) -> None:
        """kill -9, then wait until it is gone."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)
        self._read_the_rest()

    def stop(self) -> int:
        """SIGTERM; return the exit code (of a process that ended before: its own)."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=30)
                raise
        self._read_the_rest()
        return self.process.returncode

    def _read_the_rest(self) -> None:
        """Return when all that the ended process wrote is here."""
        if self._follower is not None:
            self._follower.join(timeout=30)


def wait_until(check: Any, *, seconds: float = 60.0, what: str = "") -> Any:
    """Return the first true answer of `check`, looked for until the time is over."""
    deadline = time.monotonic() + seconds
    waiter = threading.Event()
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < deadline, f"never: {what}"
        waiter.wait(0.1)

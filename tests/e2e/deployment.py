"""Processes of one deployment: a data directory, a database, a CA. When it ends, no secret may be in any log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2e.pebble import MOST_REQUESTS_IN_FLIGHT, Pebble
from e2e.service import API_KEY, Service

KILLED = -9


def acme_environment(directory_url: str) -> dict[str, str]:
    """Return the settings for a CA whose own HTTPS needs no bundle."""
    return {
        "CERTORBIT_ACME_DIRECTORY": directory_url,
        "CERTORBIT_ACME_MAX_IN_FLIGHT": str(MOST_REQUESTS_IN_FLIGHT),
        "CERTORBIT_ACME_CONTACT": "ops@example.com",
    }


def pebble_environment(pebble: Pebble) -> dict[str, str]:
    return {**acme_environment(pebble.directory_url), "CERTORBIT_ACME_CA_BUNDLE": str(pebble.ca_bundle)}


@dataclass
class Deployment:
    """environment: what all processes get.

    secrets: what must be in no log, beside the private keys that the API knows at the end.
    """

    data_dir: Path
    environment: dict[str, str]
    processes: list[Service] = field(default_factory=list)
    secrets: set[str] = field(default_factory=lambda: {API_KEY})

    def serve(self, *options: str, http01_port: int = 0, more: Mapping[str, str] | None = None) -> Service:
        """Start a server. http01_port: where it answers challenges alone."""
        listen = {"CERTORBIT_HTTP01_LISTEN": f"127.0.0.1:{http01_port}"} if http01_port else {}
        return self._start("serve", *options, environment={**self.environment, **listen, **(more or {})})

    def work(self) -> Service:
        """Start a worker."""
        return self._start("worker", environment=self.environment)

    def _start(self, *command: str, environment: dict[str, str]) -> Service:
        service = Service(self.data_dir, environment, command)
        self.processes.append(service)
        return service.start()

    def close(self) -> None:
        """Stop what runs, the way operators do, and look for secrets in what all of it wrote."""
        self._learn_private_keys()
        codes = [process.stop() for process in self.processes]
        assert set(codes) <= {0, KILLED}, codes
        for process in self.processes:
            self.check_log(process.log_text())

    def check_log(self, text: str) -> None:
        """Fail if one of our secrets is in the text; the message doesn't repeat it."""
        assert "PRIVATE KEY" not in text, "a private key is in the log"
        found = [secret[:6] for secret in self.secrets if secret in text]
        assert not found, f"secrets that begin with {found} are in the log"

    def _learn_private_keys(self) -> None:
        running = [p for p in self.processes if p.command[0] == "serve" and p.process and p.process.poll() is None]
        for item in running[0].client.certificates() if running else ():
            self.secrets |= body_lines(item["private_key"])


def body_lines(key_pem: str) -> set[str]:
    """Return the lines of a PEM text that hold its content."""
    return {line for line in key_pem.splitlines() if line and not line.startswith("-----")}

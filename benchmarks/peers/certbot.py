"""certbot (PyPI) in webroot mode: one process per certificate, 8 at once.

certbot locks its folders, so 8 at once need 8 sets of folders, each with an account of its own; these are registered
before the clock starts.
"""

import os
from functools import partial
from pathlib import Path

from peers.measure import CA, Result, Stopwatch, ended_children_cpu, run_each, run_program, webroot
from peers.throwaway import BIN

AT_ONCE = 8


def find_missing() -> str:
    return "" if (BIN / "certbot").exists() else "certbot could not be installed from PyPI"


def issue(ca: CA, *, folder: Path, count: int) -> Result:
    root = folder / "webroot"
    with webroot(root, port=ca.http01_port):
        for lane in range(AT_ONCE):
            _run(ca, folder, lane, "register", "--agree-tos", "--email", "bench@example.org", "--no-eff-email")
        certify = partial(_certify, ca, folder, root)
        certify(0, "warm-up.bench.test")
        watch = Stopwatch(ca, client_cpu=ended_children_cpu)
        run_each(certify, names=[f"n{number}.bench.test" for number in range(count)], at_once=AT_ONCE)
        result = watch.stop(certificates=count, at_once=AT_ONCE)
    issued = len(list(folder.glob("lane-*/config/live/n*.bench.test/cert.pem")))
    if issued != count:
        raise RuntimeError(f"certbot made {issued} of {count} certificates")
    return result


def _certify(ca: CA, folder: Path, root: Path, lane: int, name: str) -> None:
    _run(ca, folder, lane, "certonly", "--webroot", "--webroot-path", root, "--domain", name)


def _run(ca: CA, folder: Path, lane: int, *arguments: str | Path) -> None:
    own = folder / f"lane-{lane}"
    # fmt: off
    command: list[str | Path] = [
        BIN / "certbot", *arguments, "--non-interactive", "--server", ca.directory_url,
        "--config-dir", own / "config", "--work-dir", own / "work", "--logs-dir", own / "logs",
    ]
    # fmt: on
    run_program(command, environment={**os.environ, "REQUESTS_CA_BUNDLE": str(ca.ca_bundle)})

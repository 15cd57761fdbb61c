"""lego (Debian's package) in webroot mode: one process per certificate, one account for all, 8 at once."""

import os
import shutil
from functools import partial
from pathlib import Path

from peers.measure import CA, Result, Stopwatch, ended_children_cpu, run_each, run_program, webroot

AT_ONCE = 8


def find_missing() -> str:
    return "" if shutil.which("lego") else "lego is not installed (Debian package: lego)"


def issue(ca: CA, *, folder: Path, count: int) -> Result:
    root, state = folder / "webroot", folder / "state"
    with webroot(root, port=ca.http01_port):
        run = partial(_run, ca, root, state)
        run(0, "warm-up.bench.test")
        watch = Stopwatch(ca, client_cpu=ended_children_cpu)
        run_each(run, names=[f"n{number}.bench.test" for number in range(count)], at_once=AT_ONCE)
        result = watch.stop(certificates=count, at_once=AT_ONCE)
    issued = len(list((state / "certificates").glob("n*.bench.test.crt")))
    if issued != count:
        raise RuntimeError(f"lego made {issued} of {count} certificates")
    return result


def _run(ca: CA, root: Path, state: Path, _lane: int, name: str) -> None:
    # fmt: off
    command: list[str | Path] = [
        "lego", "--accept-tos", "--email", "bench@example.org", "--server", ca.directory_url, "--path", state,
        "--http", "--http.webroot", root, "--domains", name, "run",
    ]
    # fmt: on
    run_program(command, environment={**os.environ, "LEGO_CA_CERTIFICATES": str(ca.ca_bundle)})

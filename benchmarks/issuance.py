"""Certificates per second and CPU per certificate: Certorbit through its whole service, and its peers.

Every client gets single-name ECDSA P-256 certificates by HTTP-01 from a Pebble of its own (no validation sleep, no
nonce rejection), on loopback. Slow peers get fewer certificates; `certificates` in the result says how many were
measured. Writes benchmarks/results/issuance.json.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from peers import caddy, certbot, certorbit, lego, throwaway
from peers.measure import CA, Result

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "issuance.json"
# certificates each: enough that a run takes some ten seconds
PEERS: dict[str, tuple[ModuleType, int]] = {
    "certorbit": (certorbit, 200),
    "lego": (lego, 64),
    "certbot": (certbot, 64),
    "caddy": (caddy, 60),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PEERS, action="append", help="measure this one (may be repeated)")
    parser.add_argument("--count", type=int, help="certificates for each, instead of the usual numbers")
    arguments = parser.parse_args()
    if shutil.which("pebble") is None or shutil.which("pebble-challtestsrv") is None:
        print("Pebble is missing (Debian package: pebble): nothing can be measured.", file=sys.stderr)
        return 1
    chosen = arguments.only or list(PEERS)
    if {"certbot", "caddy"} & set(chosen):
        throwaway.install()
    results: dict[str, Result] = {}
    for name in chosen:
        module, usual = PEERS[name]
        missing = module.find_missing()
        if missing:
            print(f"{name}: left out, {missing}")
            continue
        count = arguments.count or usual
        print(f"{name}: {count} certificates …", flush=True)
        results[name] = measure(module, count=count)
        print_result(name, results[name])
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({name: result.as_json() for name, result in results.items()}, indent=2) + "\n")
    print(f"Written: {RESULTS.relative_to(ROOT)}")
    return 0 if "certorbit" not in chosen or "certorbit" in results else 1


def measure(module: ModuleType, *, count: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="certorbit-bench-") as name:
        folder = Path(name)
        with fresh_ca(folder / "ca") as ca:
            work = folder / "client"
            work.mkdir()
            result: Result = module.issue(ca, folder=work, count=count)
            return result


@contextmanager
def fresh_ca(folder: Path) -> Iterator[CA]:
    """Start Pebble the way the tests do."""
    sys.path.append(str(ROOT / "tests"))
    from e2e.pebble import start_pebble

    pebble = start_pebble(folder, nonce_reject=0)
    try:
        yield CA(
            directory_url=pebble.directory_url,
            ca_bundle=pebble.ca_bundle,
            http01_port=pebble.http01_port,
            pid=pebble.pid,
        )
    finally:
        pebble.stop()


def print_result(name: str, result: Result) -> None:
    numbers = result.as_json()
    print(
        f"{name}: {numbers['certs_per_s']} certificates/s ({result.certificates} in {result.seconds:.1f} s); CPU per"
        f" certificate: client {numbers['cpu_ms_per_cert']} ms, CA {numbers['ca_cpu_ms_per_cert']} ms",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())

"""The first minute with Certorbit: start the service, generate a certificate over its HTTP API, check it.

`demo.py start [--keep=0|1]` and `demo.py stop`; `make demo` and `make demo-stop` call them. Standard library alone:
what happens here is what any client could do. The service runs on its embedded defaults (SQLite, the built-in CA)
in `.demo/`, which is made anew at every start. It holds a lock on `.demo/lock` for as long as it lives (the open file
is inherited), so that the process id in `.demo/pid` is trusted only while the lock is held: nobody else's process is
ever stopped.
"""

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CERTORBIT = ROOT / ".venv" / "bin" / "certorbit"
FOLDER = ROOT / ".demo"
LOCK = FOLDER / "lock"
PID = FOLDER / "pid"
LOG = FOLDER / "service.log"
NAME = "www.example.test"
ENTRY = "/api/v4.3/conf/prod/certificates/demo"
START_SECONDS = 60.0
ISSUE_SECONDS = 60.0
STOP_SECONDS = 15.0


class Service(NamedTuple):
    """A running demonstration service."""

    process: subprocess.Popen[bytes]
    address: str
    api_key: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("start", "stop"))
    parser.add_argument("--keep", choices=("0", "1"), default="1", help="1: leave the service running at the end")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    was_running = stop()
    if arguments.command == "stop":
        print("Stopped the demonstration service." if was_running else "No demonstration service is running.")
        return 0
    service = start()
    try:
        show_certificate(service)
    except BaseException:
        stop()
        raise
    print_how_to_go_on(service)
    if arguments.keep == "0":
        stop()
        print("\nThe service was stopped (KEEP=0).")
    else:
        print(f"\nThe service goes on running; its log is {LOG.relative_to(ROOT)}. To stop it: make demo-stop")
    return 0


# ---------------------------------------------------------------------------------------------- the service's process


def start() -> Service:
    """Start a fresh service and return it when it is ready; on failure print its log's end and leave."""
    if (FOLDER / "data").exists():
        print("Starting anew: the certificates and the API key of the demonstration before are deleted.", flush=True)
    for path in FOLDER.iterdir():
        if path != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    api_key = secrets.token_urlsafe(32)
    # The demonstration shows the defaults: settings of the caller's own would make it another one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
    environment |= {
        "CERTORBIT_DATA_DIR": str(FOLDER / "data"),
        "CERTORBIT_BOOTSTRAP_API_KEY": api_key,
        "CERTORBIT_PUBLIC_URL": address,
    }
    print(f"Starting Certorbit on {address} (SQLite and the built-in CA, data in {FOLDER / 'data'})", flush=True)
    with LOCK.open("w") as lock, LOG.open("wb") as log:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = subprocess.Popen(
            [CERTORBIT, "serve", "--host", "127.0.0.1", "--port", str(port)],
            cwd=FOLDER,  # a certorbit.toml of the caller's is not read from here
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives make and the terminal
            pass_fds=(lock.fileno(),),
        )
        PID.write_text(str(process.pid))
    service = Service(process, address, api_key)
    try:
        wait_until_ready(service)
    except BaseException:
        stop()
        raise
    return service


def wait_until_ready(service: Service) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            raise failure(f"The service ended at its start with exit code {service.process.returncode}.")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if call(service, "GET", "/readyz")[0] == 200:
                return
        time.sleep(0.1)
    raise failure(f"The service was not ready after {START_SECONDS:.0f} seconds.")


def stop() -> bool:
    """Stop the demonstration service that runs, if one does; return whether one did."""
    with LOCK.open("a") as lock:
        if try_lock(lock):
            PID.unlink(missing_ok=True)
            return False
        # Somebody holds the lock. Only a demonstration service can, and its process id was written down.
        if not PID.exists():
            raise failure(f"A demonstration is being started elsewhere ({LOCK} is held). Try again.")
        pid = int(PID.read_text())
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
            deadline = time.monotonic() + STOP_SECONDS
            while time.monotonic() < deadline:
                if try_lock(lock):
                    PID.unlink(missing_ok=True)
                    return True
                time.sleep(0.05)
    raise failure(f"Process {pid} of an earlier demonstration does not end. Stop it by hand: kill -9 {pid}")


def try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def free_port() -> int:
    """Return 8080, or any free port if something else listens there."""
    for port in (8080, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise failure("No free port on 127.0.0.1.")


# ------------------------------------------------------------------------------------------------- the certificate


def show_certificate(service: Service) -> None:
    print(f"POST {ENTRY}?domains={NAME}", flush=True)
    began = time.monotonic()
    status, body = call(service, "POST", f"{ENTRY}?domains={NAME}", body={})
    if status != 201:
        raise failure(f"The service answered {status}: {body}")
    entry = wait_for_certificate(service, deadline=began + ISSUE_SECONDS)
    print(f"Certificate 'demo' after {time.monotonic() - began:.1f} s:")
    for field in ("subject", "issuer", "expires"):
        print(f"  {field:8} {entry[field]}")
    print(f"  {'san':8} {', '.join(entry['san'])}")
    status, root_pem = call(service, "GET", "/api/certorbit/v1/issuers/internal/root.pem")
    if status != 200:
        raise failure(f"The built-in CA's root could not be fetched; the service answered {status}: {root_pem}")
    check_chain(root_pem, entry["cert_body"])


def wait_for_certificate(service: Service, *, deadline: float) -> dict[str, Any]:
    while True:
        status, body = call(service, "GET", ENTRY)
        if status != 200:
            raise failure(f"The service answered {status}: {body}")
        entry: dict[str, Any] = json.loads(body)
        if entry["cert_body"]:
            return entry
        if time.monotonic() > deadline:
            raise failure(f"No certificate after {ISSUE_SECONDS:.0f} seconds.")
        time.sleep(0.2)


def check_chain(root_pem: str, chain_pem: str) -> None:
    """Check that the certificate is good for its name under the root that the CA gives."""
    root, chain = FOLDER / "root.pem", FOLDER / "certificate.pem"
    root.write_text(root_pem)
    chain.write_text(chain_pem)
    if shutil.which("openssl") is None:
        subprocess.run([ROOT / "scripts" / "install-debian.sh", "demo"], check=False)
    if shutil.which("openssl") is None:
        print("openssl is missing, so Python checks the chain instead.")
        check_with_cryptography(root_pem, chain_pem)
        return
    root_arg, chain_arg = (str(path.relative_to(ROOT)) for path in (root, chain))
    # fmt: off
    command = ["openssl", "verify", "-purpose", "sslserver", "-verify_hostname", NAME,
               "-CAfile", root_arg, "-untrusted", chain_arg, chain_arg]
    # fmt: on
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    print(f"$ {' '.join(command)}\n{(result.stdout + result.stderr).strip()}")
    if result.returncode != 0:
        raise failure("openssl does not accept the certificate under the built-in CA's root.")


def check_with_cryptography(root_pem: str, chain_pem: str) -> None:
    # Imported here: `make demo-stop` and the start itself need the standard library alone.
    from cryptography import x509  # noqa: PLC0415 - see above
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError  # noqa: PLC0415 - see above

    leaf, *issuers = x509.load_pem_x509_certificates(chain_pem.encode())
    store = Store(x509.load_pem_x509_certificates(root_pem.encode()))
    try:
        PolicyBuilder().store(store).build_server_verifier(x509.DNSName(NAME)).verify(leaf, issuers)
    except VerificationError as error:
        raise failure(f"The certificate is not good under the built-in CA's root: {error}") from error
    print("The chain is good.")


# ------------------------------------------------------------------------------------------------------- talking


def call(service: Service, method: str, path: str, *, body: object = None) -> tuple[int, str]:
    """Return status and body of one request to the service's HTTP API."""
    request = urllib.request.Request(
        service.address + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {service.api_key}", "Content-Type": "application/json"},
    )
    # A proxy of the environment has nothing to do with a service on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def print_how_to_go_on(service: Service) -> None:
    print(
        f"""
  Address   {service.address}/docs (the API's documentation; this version has no web console yet)
  API key   {service.api_key} (an administrator's)
  Try       curl -H 'Authorization: Basic {service.api_key}' {service.address}{ENTRY}"""
    )


def failure(message: str) -> SystemExit:
    """Say what failed and show the end of the service's log; return the exit with code 1, for the caller to raise."""
    print(message, file=sys.stderr)
    if LOG.exists():
        lines = LOG.read_text(errors="replace").splitlines()[-30:]
        print(f"The end of {LOG}:", *lines, sep="\n  ", file=sys.stderr)
    return SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())

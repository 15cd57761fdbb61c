"""Debian's Pebble and pebble-challtestsrv on loopback, each run with its own ports, files and settings.

Pebble 2.4 wedges above 16 requests in flight: clients keep to `MOST_REQUESTS_IN_FLIGHT`. Everything here is
synchronous and quick, so it can be used in threads, plain and async tests alike.
"""

import json
import os
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from e2e.service import free_port
from programs import require_program

MOST_REQUESTS_IN_FLIGHT = 12
EAB_KID = "kid-1"
EAB_HMAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
READY_SECONDS = 20.0
MOST_STARTS = 3  # a port that was free may be taken a moment later
_ADDED_ORDER = 'Added order "'


class EndedAtOnce(RuntimeError):
    """One of the programs ended before it was ready."""


@dataclass
class Pebble:
    """A running Pebble with its DNS. `stop()` ends both; nothing else is touched."""

    directory_url: str
    ca_bundle: Path
    http01_port: int
    dns_management_url: str
    management_url: str
    log_file: Path
    _processes: list[subprocess.Popen[bytes]] = field(repr=False)

    @property
    def pid(self) -> int:
        """The process id of Pebble itself, for measurements."""
        return self._processes[1].pid

    def log_text(self) -> str:
        """Return what Pebble has written so far."""
        return self.log_file.read_text(errors="replace")

    def count_new_orders(self) -> int:
        """Return how many orders Pebble has accepted, by its own log."""
        return self.log_text().count(_ADDED_ORDER)

    def fetch_roots(self) -> list[str]:
        """Return the roots of the issued chains as PEM, the default one first, then the alternates."""
        roots: list[str] = []
        while True:
            try:
                with self._open(f"{self.management_url}/roots/{len(roots)}") as response:
                    roots.append(response.read().decode())
            except urllib.error.HTTPError as error:
                error.close()
                return roots

    def fetch_status(self, chain_pem: str) -> str:
        """Return `Valid` or `Revoked` for the leaf of a chain."""
        serial = x509.load_pem_x509_certificate(chain_pem.encode()).serial_number
        with self._open(f"{self.management_url}/cert-status-by-serial/{serial:x}") as response:
            return str(json.load(response)["Status"])

    def add_a_record(self, host: str, *addresses: str) -> None:
        self._tell_dns("add-a", {"host": host, "addresses": addresses})

    def set_servfail(self, host: str) -> None:
        """Let the DNS fail for this name."""
        self._tell_dns("set-servfail", {"host": host})

    def clear_servfail(self, host: str) -> None:
        self._tell_dns("clear-servfail", {"host": host})

    def set_txt(self, host: str, value: str) -> None:
        """Set a TXT record; `host` with a dot at its end."""
        self._tell_dns("set-txt", {"host": host, "value": value})

    def clear_txt(self, host: str) -> None:
        self._tell_dns("clear-txt", {"host": host})

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=5)

    def is_running(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    def _tell_dns(self, action: str, message: dict[str, object]) -> None:
        request = urllib.request.Request(f"{self.dns_management_url}/{action}", data=json.dumps(message).encode())
        with urllib.request.urlopen(request, timeout=5):
            pass

    def _open(self, url: str) -> "urllib.response.addinfourl":
        context = ssl.create_default_context(cafile=self.ca_bundle)
        opened: urllib.response.addinfourl = urllib.request.urlopen(url, timeout=5, context=context)
        return opened


def start_pebble(
    directory: Path,
    *,
    nonce_reject: int = 20,
    eab: bool = False,
    alternate_roots: int = 0,
    authz_reuse: int = 0,
    sleep: bool = False,
    orders_per_page: int = 100,
    http01_port: int | None = None,
    blocked_names: Sequence[str] = ("blocked.example",),
    dns_server: str = "",
    environment: dict[str, str] | None = None,
) -> Pebble:
    """Start both programs and return when both answer.

    Args:
        directory: where configuration, certificate and log go.
        nonce_reject: percentage of good nonces that are rejected.
        eab: external account binding required, with `EAB_KID` and `EAB_HMAC_KEY`.
        authz_reuse: percentage of valid authorizations that are used again.
        sleep: validate after a random pause of up to 15 s, as Pebble does by default.
        http01_port: where Pebble looks for HTTP-01 answers; None: a free port.
        dns_server: what Pebble asks instead of challtestsrv, as address:port.
    """
    require_program("pebble")
    require_program("pebble-challtestsrv")
    directory.mkdir(parents=True, exist_ok=True)
    _write_certificate(directory)
    config: dict[str, object] = {
        "certificate": str(directory / "pebble.pem"),
        "privateKey": str(directory / "pebble.key"),
        "httpPort": http01_port or free_port(),
        "ocspResponderURL": "",
        "externalAccountBindingRequired": eab,
        "externalAccountMACKeys": {EAB_KID: EAB_HMAC_KEY} if eab else {},
        "domainBlocklist": list(blocked_names),
    }
    settings = {
        "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
        "PEBBLE_AUTHZREUSE": str(authz_reuse),
        "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
        "PEBBLE_WFE_ORDERS_PER_PAGE": str(orders_per_page),
        **({} if sleep else {"PEBBLE_VA_NOSLEEP": "1"}),
        **(environment or {}),
    }
    for turn in range(1, MOST_STARTS + 1):
        pebble = _start(directory, config=config, settings=settings, dns_server=dns_server)
        try:
            _wait_until_ready(pebble)
        except BaseException as error:
            pebble.stop()
            if not isinstance(error, EndedAtOnce) or turn == MOST_STARTS:
                raise
        else:
            return pebble
    raise AssertionError("the last turn returns or raises")


def _start(directory: Path, *, config: dict[str, object], settings: dict[str, str], dns_server: str) -> Pebble:
    """Start both programs on fresh ports."""
    listen, management, tls, dns, dns_management = (free_port() for _ in range(5))
    ports = {
        "listenAddress": f"127.0.0.1:{listen}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "tlsPort": tls,
    }
    (directory / "pebble.json").write_text(json.dumps({"pebble": {**config, **ports}}))
    dns_arguments = ["-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_management}"]
    dns_arguments += [
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-defaultIPv4",
        "127.0.0.1",
        "-defaultIPv6",
        "",
    ]
    arguments = ["-config", str(directory / "pebble.json"), "-dnsserver", dns_server or f"127.0.0.1:{dns}", "-strict"]
    processes = [
        _launch([require_program("pebble-challtestsrv"), *dns_arguments], log=directory / "dns.log", settings={}),
        _launch([require_program("pebble"), *arguments], log=directory / "pebble.log", settings=settings),
    ]
    return Pebble(
        directory_url=f"https://127.0.0.1:{listen}/dir",
        ca_bundle=directory / "pebble.pem",
        http01_port=int(str(config["httpPort"])),
        dns_management_url=f"http://127.0.0.1:{dns_management}",
        management_url=f"https://127.0.0.1:{management}",
        log_file=directory / "pebble.log",
        _processes=processes,
    )


@contextmanager
def running_pebble(directory: Path, *, nonce_reject: int = 20, authz_reuse: int = 0) -> Iterator[Pebble]:
    """A Pebble for the length of a `with`."""
    pebble = start_pebble(directory, nonce_reject=nonce_reject, authz_reuse=authz_reuse)
    try:
        yield pebble
    finally:
        pebble.stop()


def _launch(command: list[str], *, log: Path, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings},
        )


def _wait_until_ready(pebble: Pebble) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if not pebble.is_running():
            raise EndedAtOnce(f"Pebble or its DNS ended at once: {pebble.log_text()[-2000:]}")
        try:
            pebble.clear_servfail("ready.example")
            with pebble._open(pebble.directory_url):
                return
        except OSError as error:  # not listening yet
            if time.monotonic() > deadline:
                raise RuntimeError(f"Pebble is not ready after {READY_SECONDS} s") from error
        threading.Event().wait(0.02)


def _write_certificate(directory: Path) -> None:
    """Write a self-signed certificate for Pebble's own HTTPS, which is also the bundle to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pebble's HTTPS")])
    now = datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "pebble.pem").write_bytes(certificate.public_bytes(pem))
    (directory / "pebble.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )

"""A real `certorbit serve` that speaks HTTPS, clients with certificates of their own, and requests without a pause."""

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography import x509

from e2e.service import Client, Service
from make import make_certificate, make_key, pem, write_key

PINNED = "fingerprint: sha256:"


@dataclass(frozen=True)
class House:
    """A CA of the house, and what it gives out. number: tells its keys from another's."""

    number: int
    root: x509.Certificate

    def issue(self, name: str, *, days: float = 30, key: str = "ecdsa-p256") -> tuple[str, str]:
        """Return certificate and key as PEM."""
        own = make_key(key, 7000 + self.number)
        leaf = make_certificate(
            key=own,
            subject=f"O=Example,CN={name}",
            names=[name, "127.0.0.1"],
            issuer=self.root,
            issuer_key=make_key("ecdsa-p256", self.number),
            days=days,
            now=datetime.now(UTC),
        )
        return pem(leaf), write_key(own)

    def write(self, folder: Path, name: str, *, days: float = 30) -> Path:
        """Return a file with key and certificate."""
        certificate, key = self.issue(name, days=days)
        file = folder / f"{name}-{self.number}-{days}.pem"
        file.write_text(key + certificate)
        return file


def make_house(number: int) -> House:
    key = make_key("ecdsa-p256", number)
    root = make_certificate(
        key=key, subject=f"O=Example,CN=House {number}", is_ca=True, days=365, now=datetime.now(UTC)
    )
    return House(number, root)


def trust_all(*, shows: Path | None = None, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Return a client's context that takes any server. shows: key and certificate of the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = highest
    if shows is not None:
        context.load_cert_chain(shows)
    return context


@dataclass
class HTTPSService(Service):
    """The service's client trusts any server; tests that are about trust have contexts of their own."""

    shows: Path | None = None  # the client's certificate and key

    @property
    def client(self) -> Client:
        return Client(f"https://127.0.0.1:{self.port}", trust=trust_all(shows=self.shows))

    def served(self) -> str:
        """Return the fingerprint of the certificate that a new connection gets."""
        return fingerprint_of(self.port, self.shows)

    def self_signed(self) -> str:
        """Return the fingerprint that the start has printed."""
        with self._news:
            assert self._news.wait_for(lambda: any(PINNED in line for line in self.text), timeout=30)
            return next(line for line in self.text if PINNED in line).split(PINNED)[1].strip()

    def wait_served(self, fingerprint: str) -> None:
        """Return when the process says that it serves this certificate from now on."""
        with self._news:
            assert self._news.wait_for(
                lambda: any(
                    line.get("event") == "tls.serving" and line["fingerprint"] == fingerprint for line in self.lines
                ),
                timeout=30,
            ), "".join(self.text[-30:])


def fingerprint_of(port: int, shows: Path | None = None) -> str:
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trust_all(shows=shows))
    try:
        connection.connect()
        return sha256(connection.sock.getpeercert(binary_form=True)).hexdigest()
    finally:
        connection.close()


@dataclass
class Load:
    """Requests one after the other, each with a handshake of its own or all on one connection."""

    done: int = 0
    failures: list[str] = field(default_factory=list)
    fingerprints: set[str] = field(default_factory=set)
    _more: threading.Condition = field(default_factory=threading.Condition)

    def note(self, fingerprint: str) -> None:
        with self._more:
            self.done += 1
            self.fingerprints.add(fingerprint)
            self._more.notify_all()

    def fail(self, error: Exception) -> None:
        with self._more:
            self.failures.append(repr(error))
            self._more.notify_all()

    def wait_more(self, number: int) -> None:
        """Return when so many more requests are answered."""
        with self._more:
            wanted = self.done + number
            assert self._more.wait_for(lambda: self.done >= wanted or self.failures, timeout=60), "no more answers"
            assert self.failures == []


@contextmanager
def load(port: int, *, connections: int = 2) -> Iterator[Load]:
    """Ask without a pause until the block ends: some by new connections, and one that keeps its connection."""
    seen, stop = Load(), threading.Event()
    threads = [
        threading.Thread(target=_ask, args=(port, seen, stop), kwargs={"keeps": index == 0}, daemon=True)
        for index in range(connections + 1)
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=30)


def _ask(port: int, seen: Load, stop: threading.Event, *, keeps: bool) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trust_all())
    try:
        while not stop.is_set():
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            assert connection.sock is not None, "the server has closed a connection that is kept"
            seen.note(sha256(connection.sock.getpeercert(binary_form=True)).hexdigest())
            if not keeps:
                connection.close()
    except (OSError, http.client.HTTPException, AssertionError) as error:
        seen.fail(error)
    finally:
        connection.close()

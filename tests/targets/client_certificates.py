"""Client certificates for tests: a CA with its lists, certificates of its clients, and what comes of showing one."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.model.client_policy import ClientPolicy
from certorbit.model.entry import EntryID
from certorbit.model.site import ClientCertificateMode
from make import make_certificate, make_crl, make_key, pem, write_key

_NOW = datetime.now(UTC)
ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class ClientCA:
    """A CA whose clients may come in. number: another one is another CA."""

    number: int
    issued: list[x509.Certificate] = field(default_factory=list)

    @property
    def certificate(self) -> x509.Certificate:
        return _make_authority(self.number)

    def issue(self, folder: Path, name: str) -> Path:
        """Return a file with key and certificate of a client."""
        key = make_key(index=700 + self.number)
        leaf = make_certificate(
            key=key,
            subject=f"CN={name}",
            issuer=self.certificate,
            issuer_key=make_key(index=600 + self.number),
            now=_NOW,
        )
        self.issued.append(leaf)
        place = folder / f"{name}-{self.number}.pem"
        place.write_text(write_key(key) + pem(leaf))
        return place

    def list_revoked(self, *revoked: x509.Certificate, days: float = 7) -> str:
        """Return a CRL. days: until it ends; negative: it has ended."""
        der = make_crl(
            self.certificate,
            make_key(index=600 + self.number),
            revoked=[one.serial_number for one in revoked],
            start=_NOW - timedelta(days=30),
            end=_NOW + timedelta(days=days),
        )
        return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM).decode()


OPTIONAL = ClientCertificateMode.OPTIONAL
OURS, THEIRS = ClientCA(1), ClientCA(2)
_AUTHORITIES: dict[int, x509.Certificate] = {}


def _make_authority(number: int) -> x509.Certificate:
    if number not in _AUTHORITIES:
        _AUTHORITIES[number] = make_certificate(
            key=make_key(index=600 + number), subject=f"CN=Clients {number}", is_ca=True, now=_NOW, days=3650
        )
    return _AUTHORITIES[number]


def make_policy(
    *authorities: ClientCA, mode: ClientCertificateMode = ClientCertificateMode.ON, crls: Sequence[str] = ()
) -> ClientPolicy:
    return ClientPolicy(
        mode=mode,
        bundle=EntryID("clients"),
        ca_pem=pem(*(authority.certificate for authority in authorities)),
        crl_pem="".join(crls),
    )


def make_context(client: Path | None = None, *, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Return how a client shakes hands that trusts every server. client: what it shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if newest is not None:
        context.maximum_version = newest
    if client is not None:
        context.load_cert_chain(client)
    return context


async def gets_in(port: int, name: str, client: Path | None = None, *, newest: ssl.TLSVersion | None = None) -> bool:
    """Return whether a request under the name is answered."""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(
                ADDRESS, port, ssl=make_context(client, newest=newest), server_hostname=name
            )
            writer.write(f"GET / HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
            answer = await reader.read()
            writer.transport.abort()
    except (ssl.SSLError, ConnectionError):
        return False
    return b" 200 " in answer

"""Listeners to shake hands with: OpenSSL's s_server, Python's ssl, and stand-ins for hostile or broken servers."""

import asyncio
import os
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certorbit.model.balancer import Endpoint
from make import Chain, pem
from programs import require_program

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def fingerprints(*certificates: x509.Certificate) -> tuple[str, ...]:
    return tuple(sha256(certificate.public_bytes(Encoding.DER)).hexdigest() for certificate in certificates)


def write_pair(folder: Path, chain: Chain, name: str = "www") -> tuple[str, str]:
    """Write leaf with intermediates, and the key; return both paths."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_text(chain.chain_pem)
    key.write_text(chain.key_pem)
    return str(certificate), str(key)


@contextmanager
def s_server(folder: Path, *options: str, host: str = "127.0.0.1") -> Iterator[Endpoint]:
    """Run OpenSSL's server on a free port. It serves one connection after the other."""
    log = folder / f"s_server-{os.urandom(4).hex()}.log"
    shown = f"[{host}]" if ":" in host else host
    command = [require_program("openssl"), "s_server", "-accept", f"{shown}:0", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
    try:
        yield Endpoint(host, _wait_for_port(log, process))
    finally:
        process.kill()
        process.wait(10)
        assert process.stdin is not None
        process.stdin.close()


def _wait_for_port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines(keepends=True):
            if line.startswith("ACCEPT") and line.endswith("\n"):
                return int(line.rsplit(":", 1)[1])
        time.sleep(0.01)
    raise AssertionError(log.read_text())


def server_context(folder: Path, chain: Chain, *, order: Sequence[x509.Certificate] = ()) -> ssl.SSLContext:
    """Return a server's side. order: the certificates after the leaf as they are to be sent."""
    certificate, key = folder / f"{os.urandom(4).hex()}.crt", folder / f"{os.urandom(4).hex()}.key"
    certificate.write_text(pem(chain.leaf, *order) if order else chain.chain_pem)
    key.write_text(chain.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def tls_server(context: ssl.SSLContext, *, host: str = "127.0.0.1") -> AsyncIterator[Endpoint]:
    """Run a TLS server that waits for the client's goodbye."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(wait, host, 0, ssl=context)
    async with server:
        yield Endpoint(host, server.sockets[0].getsockname()[1])


@asynccontextmanager
async def stand_in(answer: Answer) -> AsyncIterator[Endpoint]:
    """Run a server that does as told with each connection, and is no real TLS server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])


def record(kind: int, content: bytes) -> bytes:
    """Return a TLS 1.2 record (RFC 5246 §6.2.1)."""
    return struct.pack("!BHH", kind, 0x0303, len(content)) + content


def _message(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "big") + content


def server_hello_and_certificates(*ders: bytes) -> bytes:
    """Return ServerHello (TLS 1.2, ECDHE-ECDSA-AES128-GCM) and Certificate (RFC 5246 §7.4.1.3 and §7.4.2)."""
    renegotiation_info = b"\0\x05" + b"\xff\x01\0\x01\0"  # RFC 5746 §3.2, else OpenSSL ends it here
    hello = b"\x03\x03" + bytes(32) + b"\0" + b"\xc0\x2b" + b"\0" + renegotiation_info
    listed = b"".join(len(der).to_bytes(3, "big") + der for der in ders)
    return record(0x16, _message(2, hello) + _message(11, len(listed).to_bytes(3, "big") + listed))


def requires_client_certificate(context: ssl.SSLContext, then: Answer) -> Answer:
    """Return a TLS 1.2 server that shows its certificate, asks for the client's and, when it has an answer, does so."""
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while not outgoing.pending:
            incoming.write(await reader.read(4096))
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
        writer.write(outgoing.read())
        await reader.read(1)
        await then(reader, writer)

    return answer

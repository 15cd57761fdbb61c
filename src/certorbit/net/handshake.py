"""One TLS handshake on a connected socket, to see the certificates that the other side sends.

Nothing is verified and no application data is sent; what is seen is for comparison only. The other side may be
anything: whatever it does, the result is a `Shown` or `Unreachable`, whose message is a clause for a sentence.
"""

import asyncio
import re
import socket
import ssl
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from certorbit.errors import Unreachable

_READ_BYTES: Final = 16 * 1024
# A certificate message may have 100 KiB (OpenSSL's max_cert_list); a handshake of more than this has other plans.
MOST_BYTES: Final = 256 * 1024
_ALERT_RECORD: Final = 0x15
_HANDSHAKE_RECORD: Final = 0x16
_CERTIFICATE_MESSAGE: Final = 0x0B  # RFC 5246 §7.4: the first byte after the record's header of five
# Some servers (s2n, so Amazon's) let seconds pass before they end a handshake that they refuse.
_REST_SECONDS: Final = 2.0
_ENCODING_DER: Final = 2  # _ssl.ENCODING_DER

# Ephemeral elliptic curves only, which is what load balancers serve: there the server's signature shows that it holds
# the key, and no hostile DH group can keep the event loop busy.
_CIPHERS: Final = {
    "": "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES",
    "rsa": "ECDHE+aRSA+AESGCM:ECDHE+aRSA+CHACHA20:ECDHE+aRSA+AES",
    "ecdsa": "ECDHE+aECDSA+AESGCM:ECDHE+aECDSA+CHACHA20:ECDHE+aECDSA+AES",
}
KEY_KINDS: Final = frozenset(_CIPHERS) - {""}

_ADVICE: Final[Mapping[str, str]] = {
    "handshake failure": "it has no certificate for this name and kind of key, or no cipher in common with us",
    "unrecognized name": "it has no certificate for this name",
    "protocol version": "it takes neither TLS 1.2 nor TLS 1.3",
    "certificate required": "it requires a client certificate",
    "internal error": "its certificate and key may not fit, or its log tells",
}
_ALERT: Final = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?([A-Z0-9_]+)")
_DECORATION: Final = re.compile(r"\[.*?\] | \(_ssl\.c:\d+\)")  # what Python writes around OpenSSL's words


@dataclass(frozen=True, slots=True)
class Shown:
    """What the other side showed. chain: DER, the leaf first, as sent. protocol: TLSv1.2 or TLSv1.3."""

    chain: tuple[bytes, ...]
    protocol: str


def make_context(kind: str = "") -> ssl.SSLContext:
    """Return how we shake hands: TLS 1.2 and 1.3, or with certificates of one kind of key alone.

    kind: `rsa` or `ecdsa`. In TLS 1.2 the list of ciphers says it; Python has no setting for TLS 1.3's signature
        algorithms before 3.15, so TLS 1.2 it is.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if kind:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS[kind])
    return context


async def shake_hands(connection: socket.socket, *, context: ssl.SSLContext, server_name: str) -> Shown:
    """Return what the other side shows. The time limit is the caller's; the socket stays the caller's to close.

    Args:
        connection: connected, non-blocking.
        server_name: the SNI; "": none.

    Raises:
        Unreachable: there was no handshake; phase "TLS".
    """
    return await _Handshake(connection, context=context, server_name=server_name).run()


class _Handshake:
    """OpenSSL on one side, the socket on the other, and what is known when it fails."""

    def __init__(self, connection: socket.socket, *, context: ssl.SSLContext, server_name: str) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server_name = server_name
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name or None)
        except (ValueError, TypeError) as error:  # an empty or too long label (UnicodeError), a NUL
            raise _failed(server_name, "the name can't be sent as SNI") from error
        self._received = 0
        self._start = b""  # of the answer
        self._sent = b""  # our last flight

    async def run(self) -> Shown:
        loop = asyncio.get_running_loop()
        while not self._advance():
            await self._send(loop)
            if self._is_certificate_asked:
                return await self._go_on_without_certificate(loop)
            await self._receive(loop)
        await self._say_goodbye(loop)
        return self._show(self._tls.version() or "")

    async def _go_on_without_certificate(self, loop: asyncio.AbstractEventLoop) -> Shown:
        """Return what was shown, whether the server goes on without a client certificate or not.

        In TLS 1.3 our side is done before the server says that it misses one. In TLS 1.2 it ends the handshake (by
        an alert or without a word), but it has shown and proven its own certificate: OpenSSL has sent our second
        flight only because the server's signature with its key was good.
        """
        shown = self._show("TLSv1.2")
        with suppress(Unreachable, TimeoutError):
            async with asyncio.timeout(_REST_SECONDS):
                await self._receive(loop)
                while not self._advance():
                    await self._send(loop)
                    await self._receive(loop)
                await self._say_goodbye(loop)
        return shown

    def _show(self, protocol: str) -> Shown:
        chain = read_sent_chain(self._tls)
        if not chain:
            raise _failed(self._server_name, "the server sent no certificate")
        return Shown(chain=chain, protocol=protocol)

    def _advance(self) -> bool:
        """Return whether the handshake is done; False: OpenSSL needs more of the other side's bytes."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise _failed(self._server_name, self._explain(error)) from error
        return True

    @property
    def _is_certificate_asked(self) -> bool:
        """Return whether our last flight is an (empty) client certificate in the clear, which only TLS 1.2 has."""
        return self._sent[:1] == bytes([_HANDSHAKE_RECORD]) and self._sent[5:6] == bytes([_CERTIFICATE_MESSAGE])

    async def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._outgoing.pending:
            return
        self._sent = self._outgoing.read()
        try:
            await loop.sock_sendall(self._connection, self._sent)
        except OSError as error:
            raise _failed(self._server_name, self._explain_end(reset=True)) from error

    async def _receive(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            received = await loop.sock_recv(self._connection, _READ_BYTES)
        except OSError as error:
            raise _failed(self._server_name, self._explain_end(reset=True)) from error
        if not received:
            raise _failed(self._server_name, self._explain_end(reset=False))
        self._start = self._start or received[:16]
        self._received += len(received)
        if self._received > MOST_BYTES:
            raise _failed(
                self._server_name, f"the server sent more than {MOST_BYTES // 1024} KiB and no end of the handshake"
            )
        self._incoming.write(received)

    async def _say_goodbye(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send our last flight and the closing alert, so that the other side logs no broken handshake."""
        with suppress(ssl.SSLError):  # it wants to read the other side's closing alert; we don't
            self._tls.unwrap()
        with suppress(OSError):  # all has been seen
            await loop.sock_sendall(self._connection, self._outgoing.read())

    def _explain(self, error: ssl.SSLError) -> str:
        if self._start.startswith(b"HTTP/"):
            return "the answer is plain HTTP; this port does not speak TLS"
        if self._start and self._start[0] not in {_ALERT_RECORD, _HANDSHAKE_RECORD}:
            return f"the answer is not TLS (it starts with the bytes {self._start[:8].hex(' ')})"
        if alert := _name_alert(error):
            advice = _ADVICE.get(alert)
            return f"the server refused with the alert '{alert}'" + (f": {advice}" if advice else "")
        reason = (error.reason or _DECORATION.sub("", str(error))).replace("_", " ").lower()
        if reason in {"excessive message size", "excessive length"}:
            return "the server's certificates are more than 100 KiB"
        return f"the server's answer is no good handshake ({reason})"

    def _explain_end(self, *, reset: bool) -> str:
        what = "reset" if reset else "closed"
        if not self._start:
            return f"the server {what} the connection without an answer"
        return f"the server {what} the connection in the middle of the handshake"


def read_sent_chain(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the certificates as sent (DER), the leaf first; none if the server's message has not come yet."""
    if sys.version_info >= (3, 13):
        return tuple(tls.get_unverified_chain())
    # The method is there since Python 3.10 and public since 3.13; the public ones before show the leaf alone, and
    # nothing at all of a handshake that failed.
    sent = tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001 - the reason is above
    return tuple(certificate.public_bytes(_ENCODING_DER) for certificate in sent or ())


def _name_alert(error: ssl.SSLError) -> str:
    """Return the other side's alert in words; "" if it sent none."""
    match = _ALERT.fullmatch(error.reason or "")
    return match[1].replace("_", " ").lower() if match else ""


def _failed(server_name: str, clause: str) -> Unreachable:
    return Unreachable(clause, subject=server_name, phase="TLS")

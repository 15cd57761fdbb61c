"""The proof that a certificate is served: a TLS handshake with every address of a listener (`ports.prober`).

What it shows and what it doesn't is said in docs/proof.md. The addresses come from the operator's settings and from
providers' names of load balancers, so private and loopback ones are fine.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import InvalidVersion, load_der_x509_certificate

from certorbit.errors import Unreachable
from certorbit.model.balancer import Endpoint
from certorbit.model.served import Admission, Served
from certorbit.net.address_space import Space, classify_address
from certorbit.net.admission import REFUSED, Tried, try_door
from certorbit.net.handshake import KEY_KINDS, Shown, make_context, shake_hands

log = structlog.get_logger(__name__)

AT_ONCE: Final = 16  # handshakes; each takes 1 to 2 ms of CPU, and the listeners serve others meanwhile
RESOLVING_AT_ONCE: Final = 4  # threads of our own: a dead DNS must not hold those that others use
RESOLVE_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
HANDSHAKE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a socket connects to. target: as `getaddrinfo` gives it. fault: why it is a name, not an address."""

    family: socket.AddressFamily
    target: Any
    fault: Unreachable | None = None

    @property
    def text(self) -> str:
        return str(self.target[0])


class TLSProber:
    """A `ports.prober.Prober`. One for the whole process, so that its bound on handshakes at once holds.

    Args:
        resolve_limit, connect_limit, handshake_limit: the most that each phase takes.
        at_once: handshakes under way at one time, over all callers.
        resolve: `socket.getaddrinfo`, or what stands for it; called in a thread.
    """

    def __init__(
        self,
        *,
        resolve_limit: timedelta = timedelta(seconds=RESOLVE_SECONDS),
        connect_limit: timedelta = timedelta(seconds=CONNECT_SECONDS),
        handshake_limit: timedelta = timedelta(seconds=HANDSHAKE_SECONDS),
        at_once: int = AT_ONCE,
        resolve: Callable[..., Sequence[Any]] = socket.getaddrinfo,
    ) -> None:
        self._resolve_limit = resolve_limit
        self._connect_limit = connect_limit
        self._handshake_limit = handshake_limit
        self._places = asyncio.Semaphore(at_once)
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(RESOLVING_AT_ONCE, thread_name_prefix="certorbit-probe-resolve")
        self._contexts = {kind: make_context(kind) for kind in ("", *KEY_KINDS)}

    async def probe(
        self, endpoints: Sequence[Endpoint], server_names: Sequence[str], *, key_algorithm: str
    ) -> Sequence[Served]:
        """Shake hands with every address of every endpoint, with each name as SNI; see `ports.prober.Prober`.

        Where one address takes another kind of key first, there is a second handshake with it (TLS 1.2).
        """
        found = await asyncio.gather(*(self._find_addresses(endpoint) for endpoint in endpoints))
        kind = key_algorithm.partition("-")[0]
        return await asyncio.gather(
            *(
                self._see(address, endpoint.port, server_name=_as_sni(name), kind=kind)
                for endpoint, addresses in zip(endpoints, found, strict=True)
                for address in addresses
                for name in (server_names if address.fault is None else [""])
            )
        )

    async def try_without_certificate(
        self, endpoints: Sequence[Endpoint], server_names: Sequence[str], *, says_no_by_http: bool = False
    ) -> Sequence[Admission]:
        """Try to get in at every address under each name; see `ports.prober.Prober`."""
        found = await asyncio.gather(*(self._find_addresses(endpoint) for endpoint in endpoints))
        return await asyncio.gather(
            *(
                self._try_doors(
                    address,
                    endpoint.port,
                    server_name=_as_sni(name),
                    asks=(_as_sni(name) or endpoint.host) if says_no_by_http else "",
                )
                for endpoint, addresses in zip(endpoints, found, strict=True)
                for address in addresses
                for name in (server_names if address.fault is None else [""])
            )
        )

    async def _try_doors(self, address: _Address, port: int, *, server_name: str, asks: str) -> Admission:
        async with self._places:
            tried = await self._try_door(address, server_name=server_name, asks=asks)
            by_session = False
            if not tried.gets_in and server_name:
                nameless = await self._try_door(address, server_name="", asks=asks)
                if nameless.session is not None:
                    again = await self._try_door(address, server_name=server_name, session=nameless.session, asks=asks)
                    by_session = again.gets_in and again.is_resumed
        return Admission(
            address=address.text,
            port=port,
            server_name=server_name,
            gets_in=tried.gets_in or by_session,
            by_session=by_session,
        )

    async def _try_door(
        self, address: _Address, *, server_name: str, session: ssl.SSLSession | None = None, asks: str
    ) -> Tried:
        try:
            with _open_socket(address) as connection:
                await self._connect(connection, address)
                async with asyncio.timeout(self._handshake_limit.total_seconds()):
                    return await try_door(
                        connection, context=self._contexts[""], server_name=server_name, session=session, asks=asks
                    )
        except (Unreachable, TimeoutError):
            return REFUSED

    async def _find_addresses(self, endpoint: Endpoint) -> Sequence[_Address]:
        """Return all addresses in the resolver's order; a single one with a fault if it has no answer."""
        with suppress(ValueError):
            is_short = ipaddress.ip_address(endpoint.host).version == 4
            family = socket.AF_INET if is_short else socket.AF_INET6
            return [_Address(family, (endpoint.host, endpoint.port))]
        try:
            return await self._resolve_name(endpoint)
        except Unreachable as error:
            return [_Address(socket.AF_UNSPEC, (endpoint.host,), fault=error)]

    async def _resolve_name(self, endpoint: Endpoint) -> Sequence[_Address]:
        def ask() -> Sequence[Any]:
            return self._resolve(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)

        try:
            async with asyncio.timeout(self._resolve_limit.total_seconds()):
                answers = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except TimeoutError as error:
            raise _unreachable("resolve", f"no answer within {self._resolve_limit.total_seconds():g} s") from error
        except (OSError, ValueError) as error:  # ValueError: a label of the name is empty or too long
            raise _unreachable("resolve", f"the host name can't be resolved ({_name_error(error)})") from error
        addresses = list(dict.fromkeys(_Address(family, target) for family, _, _, _, target in answers))
        if not addresses:
            raise _unreachable("resolve", "the host name has no address")
        return _leave_out_unroutable(endpoint, addresses)

    async def _see(self, address: _Address, port: int, *, server_name: str, kind: str) -> Served:
        """Return what is served there; a certificate with the wanted kind of key, if there is one."""
        async with self._places:
            served, leaf = await self._look(address, port, server_name=server_name, kind="")
            if served.error or kind not in KEY_KINDS or _name_key_kind(leaf) == kind:
                return served
            again, _ = await self._look(address, port, server_name=server_name, kind=kind)
            return served if again.error else again

    async def _look(self, address: _Address, port: int, *, server_name: str, kind: str) -> tuple[Served, bytes]:
        """Return what one handshake showed, and the leaf (DER)."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        served = Served(address=address.text, port=port, server_name=server_name, chain=())
        try:
            with _open_socket(address) as connection:
                await self._connect(connection, address)
                shown = await self._shake(connection, server_name=server_name, kind=kind)
        except Unreachable as error:
            return replace(served, error=_write_sentence(error)), b""
        return replace(
            served,
            chain=tuple(sha256(der).hexdigest() for der in shown.chain),
            protocol=shown.protocol,
            milliseconds=(loop.time() - started) * 1000,
        ), shown.chain[0]

    async def _connect(self, connection: socket.socket, address: _Address) -> None:
        seconds = self._connect_limit.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().sock_connect(connection, address.target)
        except TimeoutError as error:
            raise _unreachable("connect", f"no answer within {seconds:g} s") from error
        except OSError as error:
            raise _unreachable("connect", _name_error(error)) from error

    async def _shake(self, connection: socket.socket, *, server_name: str, kind: str) -> Shown:
        seconds = self._handshake_limit.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                return await shake_hands(connection, context=self._contexts[kind], server_name=server_name)
        except TimeoutError as error:
            raise _unreachable("TLS", f"no full handshake within {seconds:g} s") from error


def _open_socket(address: _Address) -> socket.socket:
    """Return an unconnected, non-blocking socket, unless nobody's listener can be at the address."""
    if address.fault is not None:
        raise address.fault
    if classify_address(address.text) is Space.FORBIDDEN:
        raise _unreachable("connect", "a link-local, multicast or metadata address is not asked")
    try:
        connection = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:
        raise _unreachable("connect", _name_error(error)) from error
    connection.setblocking(False)
    return connection


def _as_sni(name: str) -> str:
    """Return the name as it is sent: an IP address never is (RFC 6066 §3)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    return ""


def _leave_out_unroutable(endpoint: Endpoint, addresses: Sequence[_Address]) -> Sequence[_Address]:
    """Return the addresses that this machine has a route to; all, if it has none to any.

    A worker without IPv6 can prove nothing over IPv6; a listener that has both must not be rolled back for that.
    """
    routable = [address for address in addresses if _has_route(address)]
    left_out = [address.text for address in addresses if address not in routable]
    if not routable or not left_out:
        return addresses
    log.warning("probe.no_route", host=endpoint.host, port=endpoint.port, left_out=left_out)
    return routable


def _has_route(address: _Address) -> bool:
    """Return whether the machine would know where to send a packet. Connecting a UDP socket sends none."""
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
            probe.connect(address.target)
    except OSError:
        return False
    return True


def _name_key_kind(der: bytes) -> str:
    """Return `rsa`, `ecdsa` or, for every other key and what can't be read, ""."""
    try:
        key = load_der_x509_certificate(der).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidVersion):
        return ""
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa"
    return "ecdsa" if isinstance(key, ec.EllipticCurvePublicKey) else ""


def _name_error(error: OSError | ValueError) -> str:
    """Return the system's own words: `connection refused`, `name or service not known`."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()  # the event loop writes words of its own into `strerror`
    return ((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__).lower()


def _unreachable(phase: str, clause: str) -> Unreachable:
    return Unreachable(clause, subject="", phase=phase)


def _write_sentence(error: Unreachable) -> str:
    return f"{error.phase}: {error.message}."

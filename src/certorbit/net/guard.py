"""The guard between us and URLs that somebody else wrote: which URLs are asked, and which addresses are reached.

A CA names most of the URLs that its client asks (order, authorization, challenge, certificate), so a hostile or
broken CA could point us at our own network. Two checks, each at the last possible place:

- `check_ca_url`: the form of every URL, before it is asked;
- `AddressGuard`: every address, when its socket is about to be opened, so that redirects, literals in odd notation
  and answers of the DNS that change between two look-ups pass it too.
"""

import re
import socket
import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from certorbit.errors import Unreachable
from certorbit.net.address_space import Space, classify_address

LONGEST_URL = 2048  # ours: far more than any CA uses
# Printable ASCII without blanks, quotes and "#": nothing that could end a header line or hide a part of the URL.
_URL = re.compile(r"https?://[!$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]+")

_USER_INFO = re.compile(r"//[^/]*@")


class AddressRefused(OSError):
    """The socket was not opened: the address is nearer to us than the CA's directory is."""


def check_ca_url(url: str, *, directory: str) -> None:
    """Raise unless a URL that the CA gave may be asked.

    It must be https (http only if the operator's own directory URL is http), hold no credentials and no fragment,
    and consist of plain printable characters. Where its host leads is checked by `AddressGuard`.

    Raises:
        Unreachable: it may not; phase "guard".
    """
    fault = find_fault(url)
    if not fault and url.startswith("http:") and not directory.startswith("http:"):
        fault = "it is not https"
    if fault:
        host = urlsplit(directory).hostname or directory
        raise Unreachable(
            f"The CA at {host} named the URL {show_url(url)}, which is not asked: {fault}.", subject=host, phase="guard"
        )


def find_fault(url: str) -> str:
    """Return what keeps a URL from being asked, whoever wrote it ("it holds credentials"); "" if nothing does.

    It must be http or https, hold no credentials and no fragment, and consist of plain printable characters.
    """
    if len(url) > LONGEST_URL or not _URL.fullmatch(url):
        return "it is not a plain http(s) URL"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - the property raises for a port that isn't one
    except ValueError:
        return "it is not a URL"
    if not parts.hostname:
        return "it names no host"
    return "it holds credentials" if "@" in parts.netloc else ""


def lower_scheme(url: str) -> str:
    """Return the URL with its scheme in lower case, as `find_fault` wants it (RFC 3986 §3.1: case doesn't matter)."""
    scheme, colon, rest = url.partition(":")
    return scheme.lower() + colon + rest


def show_url(url: str) -> str:
    """Return a URL fit for a message: quoted, bounded, without credentials and what isn't printable."""
    return repr("".join(character if character.isprintable() else "?" for character in _USER_INFO.sub("//", url[:120])))


class AddressGuard(AbstractResolver):
    """Lets connections go only as near to us as the CA's directory itself is.

    The operator chose the directory. If its host is public, then private and loopback addresses are refused for all
    URLs of that CA; a CA of the house may name private ones. What counts is the first look-up of the directory's
    host: a DNS that later answers differently can't widen what is allowed.
    """

    def __init__(self, directory: str) -> None:
        self._host = urlsplit(directory).hostname or ""
        self._resolver: ThreadedResolver | None = None  # needs a running loop
        self._allowed: Space | None = None
        with suppress(ValueError):  # a name: its first look-up tells
            self._allowed = classify_address(self._host)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if self._resolver is None:
            self._resolver = ThreadedResolver()
        results = await self._resolver.resolve(host, port, family)
        if self._allowed is None and host == self._host and results:
            self._allowed = min(classify_address(result["host"]) for result in results)
        return results

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()

    def open_socket(self, address_info: Any) -> socket.socket:
        """Return an unconnected socket for an entry of `getaddrinfo`; the connector's `socket_factory`.

        Raises:
            AddressRefused: the address is nearer than allowed.
        """
        family, kind, protocol, _, target = address_info
        space = classify_address(target[0])
        if space is Space.FORBIDDEN or space > (self._allowed or Space.PUBLIC):
            raise AddressRefused(f"{target[0]} is a {space.name.lower()} address and the CA's directory is not there")
        return socket.socket(family, kind, protocol)

    def connector(self, *, ssl_context: ssl.SSLContext | bool, limit: int) -> aiohttp.TCPConnector:
        """Return a connection pool of at most `limit` connections, all of which pass this guard.

        ssl_context: True for the system's roots.
        """
        return aiohttp.TCPConnector(
            resolver=self, socket_factory=self.open_socket, ssl=ssl_context, limit=limit, keepalive_timeout=15.0
        )

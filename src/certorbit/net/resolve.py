"""Questions to the DNS: where a CNAME leads, which zone a name is in, what the zone's own name servers answer.

All questions are bounded in time. Only DNS-01 and the look at CAA records ask them; connections to hosts are resolved
by the libraries that open them.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
from dns.rdtypes.ANY.CAA import CAA
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.TXT import TXT

from certorbit.errors import Unreachable
from certorbit.solver_settings import DNS_PORT, split_server

QUESTION_SECONDS: Final = 3.0  # for one question to one name server
LOOKUP_SECONDS: Final = 10.0  # for one question to the resolvers, with all its tries
CAA_CRITICAL: Final = 0x80  # bit 0, the most significant one (RFC 8659 §4.1)
MOST_HOPS: Final = 10  # CNAMEs in a chain; resolvers give up at about as many


@dataclass(frozen=True, slots=True)
class NameServer:
    """A name server of a zone with its addresses and ports."""

    name: str
    addresses: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class CAARecord:
    """A CAA record (RFC 8659 §4.1). owner: the name that it stands at. tag: in lower case, as it compares."""

    owner: str
    is_critical: bool
    tag: str
    value: str


class Resolution:
    """Asks the given resolvers, or the system's.

    Args:
        resolvers: as address or address:port; none: the system's.
        authority_port: where the zones' own name servers listen.
    """

    def __init__(self, *, resolvers: Sequence[str] = (), authority_port: int = DNS_PORT) -> None:
        self._resolvers = tuple(split_server(text) for text in resolvers)
        self._authority_port = authority_port
        self._made: dns.asyncresolver.Resolver | None = None

    async def follow(self, name: str) -> str:
        """Return the name that a chain of CNAMEs ends at; the name itself if it has none.

        Raises:
            Unreachable: the resolvers don't answer, or the chain is too long or a circle; phase "resolve".
        """
        seen = [name]
        while target := await self._find_cname(seen[-1]):
            if target in seen or len(seen) > MOST_HOPS:
                raise _unreachable(name, f"its CNAMEs go in a circle or through more than {MOST_HOPS} names")
            seen.append(target)
        return seen[-1]

    async def find_zone(self, name: str) -> str:
        """Return the zone that holds a name, whether the name exists or not.

        Raises:
            Unreachable: the resolvers don't answer; phase "resolve".
        """
        try:
            found = await dns.asyncresolver.zone_for_name(
                _absolute(name), resolver=self._resolver(), lifetime=2 * LOOKUP_SECONDS
            )
        except (dns.exception.DNSException, OSError) as error:
            raise _unreachable(name, f"its zone can't be found: {_words(error)}") from error
        return _text(found)

    async def find_name_servers(self, zone: str) -> Sequence[NameServer]:
        """Return all name servers of a zone, sorted by name, each with its addresses.

        Raises:
            Unreachable: the resolvers don't answer, or one server has no address; phase "resolve".
        """
        answer = await self._ask(zone, "NS")
        names = sorted(_text(record.target) for record in answer if isinstance(record, NS))
        if not names:
            raise _unreachable(zone, "it has no name servers")
        addresses = await asyncio.gather(*(self._find_addresses(name) for name in names))
        return [NameServer(name, found) for name, found in zip(names, addresses, strict=True)]

    async def find_caa(self, name: str) -> Sequence[CAARecord]:
        """Return the CAA records at a name, or where its CNAMEs lead; none if there are none.

        Raises:
            Unreachable: the resolvers don't answer; phase "resolve".
        """
        found = await self._look_up(name, "CAA")
        if found is None:
            return []
        return [
            CAARecord(
                owner=_text(found.name),
                is_critical=bool(record.flags & CAA_CRITICAL),
                tag=_decode(record.tag).lower(),
                value=_decode(record.value),
            )
            for record in found
            if isinstance(record, CAA)
        ]

    async def _find_addresses(self, name: str) -> tuple[tuple[str, int], ...]:
        answers = await asyncio.gather(*(self._ask(name, kind) for kind in ("A", "AAAA")))
        found = tuple((str(record), self._authority_port) for answer in answers for record in answer)
        if not found:
            raise _unreachable(name, "the name server has no address")
        return found

    async def _find_cname(self, name: str) -> str | None:
        records = await self._ask(name, "CNAME")
        return next((_text(record.target) for record in records if isinstance(record, CNAME)), None)

    async def _ask(self, name: str, kind: str) -> Sequence[object]:
        """Return the records; none for a name or type that doesn't exist."""
        return tuple(await self._look_up(name, kind) or ())

    async def _look_up(self, name: str, kind: str) -> "dns.rrset.RRset | None":
        """Return the records where the name's CNAMEs lead; None for a name or type that doesn't exist."""
        try:
            answer = await self._resolver().resolve(_absolute(name), kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return None
        except (dns.exception.DNSException, OSError) as error:
            raise _unreachable(name, f"the resolvers have no answer for {kind}: {_words(error)}") from error
        return answer.rrset

    def _resolver(self) -> dns.asyncresolver.Resolver:
        if self._made is None:
            try:
                self._made = dns.asyncresolver.Resolver(configure=not self._resolvers)
            except (dns.exception.DNSException, OSError) as error:
                raise _unreachable("/etc/resolv.conf", f"it names no resolver: {_words(error)}") from error
            if self._resolvers:
                self._made.nameservers = [
                    dns.nameserver.Do53Nameserver(address, port) for address, port in self._resolvers
                ]
            self._made.timeout, self._made.lifetime = QUESTION_SECONDS, LOOKUP_SECONDS
        return self._made


async def read_txt(name: str, *, server: tuple[str, int]) -> frozenset[str]:
    """Return the TXT values that one name server shows for a name; none for a name without any.

    Args:
        server: address and port; asked over UDP, over TCP when the answer is long.

    Raises:
        Unreachable: it doesn't answer, or refuses to; phase "read".
    """
    address, port = server
    question = dns.message.make_query(_absolute(name), dns.rdatatype.TXT, use_edns=0)
    question.flags = dns.flags.Flag(0)  # no recursion: what counts is what this server itself holds
    try:
        async with asyncio.timeout(QUESTION_SECONDS):
            answer, _ = await dns.asyncquery.udp_with_fallback(question, address, port=port, timeout=QUESTION_SECONDS)
    except (dns.exception.DNSException, OSError, EOFError) as error:  # TimeoutError is an OSError
        raise Unreachable(
            f"The name server {address} doesn't answer: {_words(error)}.", subject=address, phase="read"
        ) from error
    if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        raise Unreachable(
            f"The name server {address} answers {dns.rcode.to_text(answer.rcode())} for {name}.",
            subject=address,
            phase="read",
        )
    records = [record for rrset in answer.answer if rrset.name == _absolute(name) for record in rrset]
    return frozenset(
        b"".join(record.strings).decode("utf-8", "replace") for record in records if isinstance(record, TXT)
    )


def _absolute(name: str) -> dns.name.Name:
    return dns.name.from_text(name, dns.name.root)


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _words(error: Exception) -> str:
    return str(error).rstrip(".")[:300] or type(error).__name__


def _unreachable(name: str, reason: str) -> Unreachable:
    return Unreachable(f"DNS: {name}: {reason}.", subject=name, phase="resolve")

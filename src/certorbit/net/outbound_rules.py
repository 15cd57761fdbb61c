"""Which addresses and ports the URLs of others may lead to; `net/fetch.py` asks here before each connection."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from certorbit.net.guard import Space, classify_address
from certorbit.outbound_settings import OutboundSettings

PORTS: Final = frozenset({80, 443})

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Where an IPv4 address hides in an IPv6 one: mapped, NAT64 (RFC 6052, 8215), 6to4, Teredo, and the long dead
# "compatible" form, which also holds :: and ::1.
_EMBEDDING: Final = tuple(
    map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96"))
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out; fec0::/10 is not in it


@dataclass(frozen=True, slots=True)
class OutboundRules:
    """Where others' URLs may lead. allow: networks that may be reached although they are not public."""

    allow: tuple[_Network, ...] = ()
    ports: frozenset[int] = PORTS

    def permits(self, text: str) -> bool:
        """Return whether a connection to this address (textual, with or without zone) may be opened."""
        address = ipaddress.ip_address(text.partition("%")[0])
        if self._is_allowed(address):
            inner = _find_embedded(address)
            # Allowing a NAT64 prefix doesn't open what lies behind it: the metadata service has an address there too.
            return inner is None or self.permits(str(inner))
        if isinstance(address, ipaddress.IPv6Address) and (
            address not in _GLOBAL_UNICAST or any(address in network for network in _EMBEDDING)
        ):
            return False
        return classify_address(str(address)) is Space.PUBLIC

    def _is_allowed(self, address: _Address) -> bool:
        return any(network.version == address.version and address in network for network in self.allow)


def rules_from(settings: OutboundSettings) -> OutboundRules:
    """Return the rules of the settings."""
    return OutboundRules(allow=settings.networks(), ports=PORTS | set(settings.ports))


def _find_embedded(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address within the IPv6 one, wherever its form keeps it; None: there is none."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in ipaddress.IPv6Network("2002::/16"):
        return address.sixtofour
    if address in ipaddress.IPv6Network("2001::/32"):
        return address.teredo[1] if address.teredo else None
    if any(address in network for network in _EMBEDDING) and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None

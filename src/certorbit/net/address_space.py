"""How near an address is to us, in whatever form it is written."""

import ipaddress
from enum import IntEnum
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Cloud metadata services that are not link-local: Alibaba's, Azure's, and Amazon's over IPv6.
_METADATA: Final = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254")))
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out; fec0::/10 is not in it
_SIX_TO_FOUR, _TEREDO = ipaddress.IPv6Network("2002::/16"), ipaddress.IPv6Network("2001::/32")
# Forms that lead to the IPv4 address in their last 32 bits and nowhere else: mapped (RFC 4291 §2.5.5.2), which never
# leaves the machine as IPv6, and the NAT64 prefix of all networks (RFC 6052 §2.1), which hosts without IPv4 live by.
_SAME_AS_IPV4: Final = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))
# Forms with an IPv4 address in the same place that mean something to somebody's own network at best: NAT64's local
# prefix (RFC 8215), translated (RFC 2765), and the long dead "compatible" one, which also holds :: and ::1.
_LOCAL_FORMS: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")))


class Space(IntEnum):
    """How near an address is to us; the nearer, the more it takes to be allowed to reach it."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3  # link-local, metadata services, multicast, unspecified, tunnels: nothing that anybody may ask for


def classify_address(text: str) -> Space:
    """Return how near an address (textual, without zone or with one) is to us.

    An IPv4 address inside an IPv6 one counts as what it is; and what is neither IPv4 nor given out as IPv6 is private
    at least.
    """
    address: _Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _SIX_TO_FOUR or address in _TEREDO:
            return Space.FORBIDDEN  # nobody's server
        inner = find_embedded(address)
        if inner is not None:
            space = classify_address(str(inner))
            return space if _is_in(address, _SAME_AS_IPV4) else max(space, Space.PRIVATE)
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return Space.FORBIDDEN
    if address.is_loopback:
        return Space.LOOPBACK
    is_given_out = isinstance(address, ipaddress.IPv4Address) or address in _GLOBAL_UNICAST
    return Space.PUBLIC if address.is_global and is_given_out else Space.PRIVATE


def find_embedded(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address within the IPv6 one, wherever its form keeps it; None: there is none."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _SIX_TO_FOUR:
        return address.sixtofour
    if address in _TEREDO:
        return address.teredo[1] if address.teredo else None
    if _is_in(address, (*_SAME_AS_IPV4, *_LOCAL_FORMS)) and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_in(address: ipaddress.IPv6Address, networks: tuple[ipaddress.IPv6Network, ...]) -> bool:
    return any(address in network for network in networks)

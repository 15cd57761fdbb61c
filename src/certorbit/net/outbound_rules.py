"""Which addresses and ports the URLs of others may lead to; `net/fetch.py` asks here before each connection."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from certorbit.net.address_space import Space, classify_address, find_embedded
from certorbit.outbound_settings import OutboundSettings

PORTS: Final = frozenset({80, 443})

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class OutboundRules:
    """Where others' URLs may lead. allow: networks that may be reached although they are not public."""

    allow: tuple[_Network, ...] = ()
    ports: frozenset[int] = PORTS

    def permits(self, text: str) -> bool:
        """Return whether a connection to this address (textual, with or without zone) may be opened."""
        address = ipaddress.ip_address(text.partition("%")[0])
        inner = find_embedded(address)
        if self._is_allowed(address):
            # Allowing a NAT64 prefix doesn't open what lies behind it: the metadata service has an address there too.
            return inner is None or self.permits(str(inner))
        # Even a public IPv4 address in an IPv6 form is refused: where it leads is up to whoever translates it.
        return inner is None and classify_address(str(address)) is Space.PUBLIC

    def _is_allowed(self, address: _Address) -> bool:
        return any(network.version == address.version and address in network for network in self.allow)


def rules_from(settings: OutboundSettings) -> OutboundRules:
    """Return the rules of the settings."""
    return OutboundRules(allow=settings.networks(), ports=PORTS | set(settings.ports))

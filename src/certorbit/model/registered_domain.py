"""The registered domain of a name: what CAs count certificates by.

The public suffix list comes with the library `publicsuffixlist`, whose every release carries the list of its day: no
download at run time, and the lock file says which list is in use. Its private part counts too, as at Let's Encrypt:
`a.github.io` and `b.github.io` are registered domains of their own.
"""

import ipaddress
from functools import cache

from publicsuffixlist import PublicSuffixList

_IPV6_NETWORK = 64  # facts.md 3.4: an IPv6 address counts as its /64


def registered_domain_of(identifier: str) -> str:
    """Return what a CA counts certificates for this identifier by.

    Args:
        identifier: normalised (model/identifiers.py): A-labels in lower case, or an address in canonical text.

    Returns: the public suffix and one label more; of a wildcard, that of the name below it; a name that is a public
        suffix itself stands for itself. An IPv4 address stands for itself, an IPv6 address for its /64.
    """
    try:
        address = ipaddress.ip_address(identifier)
    except ValueError:
        name = identifier.removeprefix("*.")
        return _suffixes().privatesuffix(name) or name
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))


@cache
def _suffixes() -> PublicSuffixList:
    """Return the list, read once per process (50 ms) and only where a CA has limits."""
    return PublicSuffixList()  # holds the rules for names in other scripts as A-labels too, like our names

"""Network addresses of callers: which one is the client's, which networks it is in, which callers count as one."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from certorbit.errors import BadInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MOST_HOPS = 20  # of X-Forwarded-For that are looked at; no chain of proxies is longer
_ONE_CALLER_BITS = 64  # of an IPv6 address: one customer has at least that network to itself (RFC 6177 §2)


def read_address(text: str) -> Address | None:
    """Return the address; IPv4 in IPv6's clothes (`::ffff:192.0.2.1`) as IPv4. None if it is none."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def read_networks(texts: Sequence[str], *, subject: str) -> tuple[Network, ...]:
    """Return the networks; an address alone is the network of it.

    Raises:
        BadInput: one is no network, or has bits beyond its length.
    """
    networks: list[Network] = []
    for text in texts:
        try:
            network = ip_network(text.strip())
        except ValueError:
            raise BadInput(
                f"{subject}: {text[:80]!r} is no network; write one as 192.0.2.0/24, 2001:db8::/48 or a single"
                " address, without bits after the network's part.",
                subject=subject,
            ) from None
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
            raise BadInput(f"{subject}: write {text[:80]!r} as an IPv4 network.", subject=subject)
        networks.append(network)
    return tuple(networks)


def is_within(text: str, networks: Sequence[Network]) -> bool:
    """Return whether the address is in one of the networks; what is no address is in none."""
    address = read_address(text)
    return address is not None and any(address in network for network in networks)


def group_of(text: str) -> str:
    """Return the name that callers from one place share: the IPv4 address, the /64 of an IPv6 address."""
    address = read_address(text)
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), _ONE_CALLER_BITS), strict=False))
    return text if address is None else str(address)


def find_client(peer: str, forwarded: Sequence[str], *, trusted: Sequence[Network]) -> str:
    """Return the client's address: the last hop that is no proxy of ours.

    Args:
        peer: who is connected; "" if that is no network address.
        forwarded: the values of X-Forwarded-For in their order. Anybody can send one, so it is read from its end and
            only as long as the hop that wrote an entry is trusted.
        trusted: the proxies' networks.

    Returns:
        the peer's address if it is no trusted proxy; behind one whose entry is no address, that proxy's own.
    """
    client = read_address(peer)
    if client is None:
        return peer
    hops = [hop for value in forwarded for hop in value.split(",")][-_MOST_HOPS:]
    while hops and any(client in network for network in trusted):
        before = read_address(_without_port(hops.pop()))
        if before is None:
            break
        client = before
    return str(client)


def _without_port(hop: str) -> str:
    """Return the address of `192.0.2.1:4711` and `[2001:db8::1]:4711`, which some proxies write."""
    text = hop.strip()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text

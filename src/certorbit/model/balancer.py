"""Load balancers: listeners, the copies of certificates that providers hold, and what listeners hold of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from certorbit.model.entry import ConfigID, EntryID, EntryUID, VersionID
from certorbit.model.material import CertificateFacts, PrivateKeyPEM


@dataclass(frozen=True, slots=True, order=True)
class ListenerKey:
    """Which listener: unique in the whole service.

    target: the name in the settings (`[[targets]]`). region: "" where the provider has none.
    load_balancer: its name, as the API's paths have it. listener: the listener's name or ARN. port: TCP port.
    """

    target: str
    region: str
    load_balancer: str
    listener: str
    port: int

    def __str__(self) -> str:
        place = f"{self.target}/{self.region}" if self.region else self.target
        return f"{place}/{self.load_balancer}/{self.listener}:{self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a listener can be reached by TLS: a host name or an IP address, and a port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A listener as its provider shows it.

    kind: the API's `load_balancer_type`: application, network, classic, cloudfront, haproxy, nginx, envoy, ...
    dns_name: of the load balancer; "" if it has none.
    max_certificates: how many certificates it takes beside the default one; 0: the default one alone.
    default: handle of the default certificate; "" if there is none.
    certificates: handles of the others, without the default, in the provider's order.
    endpoints: where the proof connects to; each host name is resolved, and all of its addresses are tried.
    """

    key: ListenerKey
    provider: str
    kind: str
    dns_name: str
    max_certificates: int
    default: str
    certificates: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]

    @property
    def handles(self) -> tuple[str, ...]:
        """All handles that the listener holds, the default one first."""
        others = tuple(handle for handle in self.certificates if handle != self.default)
        return (self.default, *others) if self.default else others

    def holds(self, handle: str) -> bool:
        return handle == self.default or handle in self.certificates

    def has_room_for(self, count: int = 1) -> bool:
        """Return whether so many more certificates fit beside the default one."""
        others = [handle for handle in self.certificates if handle != self.default]
        return len(others) + count <= self.max_certificates


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a target is given of a version. The key's text is taken out as late as possible.

    chain_pem: leaf first. key: None only for CA bundles, which no listener serves.
    """

    config: ConfigID
    entry_id: EntryID
    entry_uid: EntryUID
    version: VersionID
    chain_pem: str
    key: PrivateKeyPEM
    facts: CertificateFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A provider's copy of a certificate.

    handle: the provider's own id (an ARN, a self link, a file's path): what listeners hold.
    link: how clients see it; stable over versions where the provider keeps the handle.
    """

    handle: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCopy:
    """Our record of a copy: which version of which entry a handle holds.

    scope: the target's own store that the copy is in (`Target.scope_of`); listeners of one scope share a copy.
    version: what it holds now, as far as we know.
    is_doomed: no listener of ours holds it any more; it is to be removed.
    """

    target: str
    scope: str
    handle: str
    link: str
    provider: str
    region: str
    config: ConfigID
    entry_id: EntryID
    entry_uid: EntryUID
    version: VersionID
    updated_at: datetime
    is_doomed: bool = False


def shown_link(link: str, entry: EntryID) -> str:
    """Return the link as load balancers show it: its last path segment is the id or ends in `-<id>` (contract.md).

    Providers that choose names of their own (an ACM ARN) get the id as one more segment (docs/decisions/0008).
    """
    last = link.rsplit("/", 1)[-1]
    return link if last == entry or last.endswith(f"-{entry}") else f"{link}/{entry}"


def is_same_link(given: str, *, link: str, handle: str, entry: EntryID) -> bool:
    """Return whether what a client gave names this copy: the entry's id, or its link in any of its forms."""
    return given in {entry, link, handle, shown_link(link, entry)}


def count_others(listener: Listener, without: Sequence[str] = ()) -> int:
    """Return how many certificates the listener holds beside the default one, not counting some handles."""
    return sum(1 for handle in listener.certificates if handle != listener.default and handle not in without)

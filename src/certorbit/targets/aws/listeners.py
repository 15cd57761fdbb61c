"""What the three kinds of listeners have in common: how each is driven, and how they wait for a new certificate."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Final, Protocol, TypeVar

from certorbit.clock import Chance, Clock
from certorbit.errors import DeployFailed, TargetFull, TargetGone, TargetRefused
from certorbit.model.backoff import Poll
from certorbit.model.balancer import Endpoint, Listener, ListenerKey
from certorbit.target_settings.aws import AWSTargetSettings
from certorbit.target_settings.table import split_address
from certorbit.targets.aws.refusals import find_code

T = TypeVar("T")

_PATIENCE: Final = Poll(first=1.0, longest=5.0, factor=1.6, limit=45.0)


class Listeners(Protocol):
    """One kind of listeners. `held` is always what `look` returned a moment ago."""

    async def discover(self, region: str) -> Sequence[Listener]: ...
    async def look(self, key: ListenerKey) -> Listener: ...
    async def attach(self, held: Listener, handle: str, *, instead_of: str) -> None: ...
    async def set_default(self, held: Listener, handle: str) -> None: ...
    async def detach(self, held: Listener, handle: str) -> None: ...


async def when_known(send: Callable[[], Awaitable[T]], *, unknown: Collection[str], clock: Clock, chance: Chance) -> T:
    """Return what `send` returns. A new ACM certificate is not at once known to all of AWS: then it is sent again.

    unknown: the codes by which the service says that it doesn't know the certificate.
    """
    end = clock.now() + timedelta(seconds=_PATIENCE.limit)
    turn = 0
    while True:
        try:
            return await send()
        except DeployFailed as error:
            if find_code(error) not in unknown or clock.now() >= end:
                raise
        await clock.sleep(_PATIENCE.pause(turn, uniform=chance.between))
        turn += 1


def find_endpoints(
    settings: AWSTargetSettings, load_balancer: str, *, dns_name: str, port: int
) -> tuple[Endpoint, ...]:
    """Return where the proof connects to: what the settings say, or the load balancer's own name."""
    addresses = settings.probe_addresses.get(load_balancer, ())
    if not addresses:
        return (Endpoint(dns_name, port),)
    return tuple(Endpoint(*split_address(address, port)) for address in addresses)


def gone(key: ListenerKey, why: str = "there is no such TLS listener") -> TargetGone:
    return TargetGone(f"{key}: {why}; look at the list of load balancers.", subject=str(key))


def is_default(held: Listener) -> TargetRefused:
    return TargetRefused(
        f"{held.key}: this is the listener's default certificate, which can't be taken off; make another one the"
        " default first.",
        subject=str(held.key),
    )


def takes_one(held: Listener) -> TargetFull:
    return TargetFull(
        f"{held.key}: a {held.kind} listener serves one certificate, its default, and has none beside it; attach the"
        " certificate as the default.",
        subject=str(held.key),
    )

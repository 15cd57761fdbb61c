"""What the API is joined with. `certorbit.app` fills it in; nothing here builds an adapter."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from certorbit.clock import Clock
from certorbit.model.failover import order_for
from certorbit.observe.metrics import Metrics
from certorbit.ports.authority import AuthorityDoor
from certorbit.ports.engine import OperationWatch, StepReader
from certorbit.ports.issuer import Issuer
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store
from certorbit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that the API talks to.

    new_id: returns a new unique id, at most 64 characters of `[A-Za-z0-9_-]`.
    issuers: in order of preference; the first one issues.
    authority: the built-in CA's public side; None where there is no built-in CA.
    check_ready: raises a CertorbitError whose message says why the service can't serve now.
    """

    settings: Settings
    clock: Clock
    store: Store
    keyring: Keyring
    new_id: Callable[[], str]
    watch: OperationWatch
    steps: StepReader
    issuers: Sequence[Issuer]
    authority: AuthorityDoor | None
    check_ready: Callable[[], Awaitable[None]]
    metrics: Metrics

    def issuers_of(self, config: str) -> Sequence[Issuer]:
        """Return the issuers of a configuration in order of preference."""
        by_name = {issuer.name: issuer for issuer in self.issuers}
        names = order_for(config, tuple(by_name), self.settings.issuers_by_configuration())
        return [by_name[name] for name in names]

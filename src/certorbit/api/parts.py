"""What the API is joined with. `certorbit.app` fills it in; nothing here builds an adapter."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from certorbit.clock import Clock
from certorbit.observe.metrics import Metrics
from certorbit.ports.authority import AuthorityDoor
from certorbit.ports.bucket import BundlePublisher
from certorbit.ports.engine import OperationWatch, StepReader
from certorbit.ports.identity import IdentityProvider
from certorbit.ports.inventory import ListenerInventory
from certorbit.ports.issuer import Issuer
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store
from certorbit.ports.target import PlacedTarget
from certorbit.services.permitting import ConfigIssuers, issuers_for
from certorbit.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that the API talks to.

    new_id: returns a new unique id, at most 64 characters of `[A-Za-z0-9_-]`.
    issuers: in order of preference; the first one issues.
    authority: the built-in CA's public side; None where there is no built-in CA.
    targets: by name, in the order of the settings. inventory: None where there are no targets.
    check_ready: raises a CertorbitError whose message says why the service can't serve now.
    publisher: publishes edge bundles; None: nobody does. identity: whom people sign in with; None: nobody signs in.
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
    targets: Mapping[str, PlacedTarget] = field(default_factory=dict)
    inventory: ListenerInventory | None = None
    publisher: BundlePublisher | None = None
    identity: IdentityProvider | None = None

    def issuers_of(self, config: str) -> Sequence[Issuer]:
        """Return the issuers of a configuration in order of preference."""
        return self.config_issuers(config).in_order

    def config_issuers(self, config: str) -> ConfigIssuers:
        """Return the issuers of a configuration, and whether they are named for it alone."""
        return issuers_for(config, self.issuers, self.settings.issuers_by_configuration())

    def targets_of(self, config: str) -> tuple[str, ...]:
        """Return the names of the targets that the configuration's certificates may go to."""
        return tuple(name for name, placed in self.targets.items() if placed.is_open_to(config))

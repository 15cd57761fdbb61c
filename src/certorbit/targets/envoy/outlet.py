"""How secrets get to proxies: what the target asks of the SDS server and of the files alike."""

from collections.abc import Collection, Sequence
from typing import Protocol

from certorbit.model.material import Material
from certorbit.ports.target import Finding
from certorbit.targets.envoy.messages import Secret
from certorbit.targets.envoy.session import Catalog


class Outlet(Protocol):
    """A way to the proxies. A catalog holds every secret of the target, so that what is missing is never ours."""

    async def placeholder(self) -> Material:
        """Return what is served where there is no certificate yet: Envoy opens no listener without one."""
        ...

    async def start(self) -> None:
        """Open to the proxies. Raises BadInput if that can't be done as the settings say."""
        ...

    async def show(self, catalog: Catalog) -> None:
        """Serve this from now on. Harmless to repeat; what is the same already is left alone."""
        ...

    async def confirm(self, secrets: Sequence[Secret]) -> str:
        """Wait until the proxies that we know of have taken these versions, for a limited time.

        Returns the words of one that refused, else "": also when there is none, or some were silent.
        """
        ...

    async def confirm_check(self, secret: Secret, *, beside: Collection[str]) -> str:
        """Wait like `confirm`, more strictly, for what a listener checks clients by. beside: its other secrets.

        Raises:
            TargetRefused: a proxy serves the listener and doesn't ask for the secret.
            Unreachable: a proxy was silent: it may let in whom it shouldn't.
        """
        ...

    def find_unchecking(self, name: str, *, beside: Collection[str]) -> Sequence[str]:
        """Return the connected proxies that ask for one of the secrets `beside` and not for the one of this name."""
        ...

    async def find_stale(self, catalog: Catalog) -> Collection[str]:
        """Return the names whose secret isn't what the catalog says, where that can be seen from outside."""
        ...

    async def check(self) -> Sequence[Finding]: ...

    async def close(self) -> None: ...

"""The inventory of listeners, as the API sees it: it can ask targets now. `workflows/inventory.py` does so."""

from typing import Protocol


class ListenerInventory(Protocol):
    async def ensure(self) -> None:
        """Ask the targets of which nothing is known yet, each once per process. A target's failure is only logged."""
        ...

    async def refresh(self, provider: str = "") -> None:
        """Ask all targets (of a provider) what listeners they have, and keep that.

        Raises:
            Outside: a target did not answer, or refused us; the others were kept.
        """
        ...

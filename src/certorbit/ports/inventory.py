"""The inventory of listeners, as the API sees it: it can ask targets now. `workflows/inventory.py` does so."""

from typing import Protocol


class ListenerInventory(Protocol):
    async def refresh(self, provider: str = "") -> None:
        """Ask all targets (of a provider) what listeners they have, and keep that.

        Raises:
            Outside: a target did not answer, or refused us; the others were kept.
        """
        ...

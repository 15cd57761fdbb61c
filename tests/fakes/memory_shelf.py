"""A shelf in memory: what the store keeps for targets that serve certificates themselves."""

from collections.abc import Collection, Mapping, Sequence

from certorbit.errors import LostRace
from certorbit.model.client_policy import ClientPolicy
from certorbit.ports.target import ShelfItem, ShelfState


class MemoryShelf:
    """`ports.target.Shelf`; `state` is the shelf as it is. `races` makes that many changes lose."""

    def __init__(self) -> None:
        self.state = ShelfState(0, (), {})
        self.races = 0

    async def revision(self) -> int:
        return self.state.revision

    async def load(self) -> ShelfState:
        return self.state

    async def change(
        self,
        *,
        at: int,
        put: Sequence[ShelfItem] = (),
        remove: Collection[str] = (),
        slots: Mapping[str, str] | None = None,
        policies: Mapping[str, ClientPolicy | None] | None = None,
    ) -> ShelfState:
        if at != self.state.revision or self.races:
            self.races = max(0, self.races - 1)
            raise LostRace("The shelf was changed by another node.")
        items = {item.name: item for item in self.state.items if item.name not in remove}
        items |= {item.name: item for item in put}
        used = {**self.state.slots, **(slots or {})}
        self.state = ShelfState(
            at + 1,
            tuple(items[name] for name in sorted(items)),
            {slot: item for slot, item in sorted(used.items()) if item},
            {scope: policy for scope, policy in sorted({**self.state.policies, **(policies or {})}.items()) if policy},
        )
        return self.state

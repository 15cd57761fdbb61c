"""What the contract of `ports.target.VerifiesListenerClients` is tried on: a target and a way to knock at its listeners."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from certorbit.model.balancer import Copy, ListenerKey
from certorbit.ports.target import Target, VerifiesListenerClients
from targets.target_bench import make_bundle


class ListenerVerifyingAdapter(Target, VerifiesListenerClients, Protocol):
    """Both ports in one object."""


@dataclass(frozen=True)
class ListenerClientBench:
    """A target with two listeners. lets_in: whether a listener lets a client in under a name; the client: a file.

    has_optional: its listeners can have mode `optional`, and both modes one after the other.
    can_be_without: its listeners can be without a check again.
    """

    target: ListenerVerifyingAdapter
    listener: ListenerKey
    other: ListenerKey
    lets_in: Callable[[ListenerKey, str, Path | None], Awaitable[bool]]
    has_optional: bool = True
    can_be_without: bool = True

    async def install(self, entry: str, listener: ListenerKey | None = None, version: int = 1) -> Copy:
        scope = self.target.scope_of(listener or self.listener)
        return await self.target.install(make_bundle(entry, version), scope=scope, present=None)

    async def see(self, client_files: list[Path | None], name: str = "www.example.com") -> list[bool]:
        """Return who gets in at the first listener."""
        return [await self.lets_in(self.listener, name, client) for client in client_files]

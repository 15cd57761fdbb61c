"""Buckets that edge bundles are published to, and the publisher that the API talks to.

Errors of buckets are the same for all kinds:

- BadInput: the bucket is not there, refuses us, or its settings are wrong; trying again is no help.
- Unreachable: no usable answer, after the bucket's own few tries.
- Publishing: somebody else replaced what we were about to replace.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from certorbit.model.entry import ConfigID


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it was read. revision: names this content of it; for `replace` alone."""

    content: bytes
    revision: str


class Bucket(Protocol):
    """A place for objects by folder (`prod`, `prod/objects`) and name. Every method may be repeated.

    An object is there whole or not at all, also for readers and after a crash of ours in the middle.
    """

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...

    async def read(self, folder: str, name: str, *, most_bytes: int) -> StoredObject | None:
        """Return the object; None if there is none. Raises BadInput if it is larger than that."""
        ...

    async def list_sizes(self, folder: str) -> Mapping[str, int]:
        """Return the bytes of each object right in the folder, by name; empty if there is no folder."""
        ...

    async def write(self, folder: str, name: str, content: bytes) -> None:
        """Write an object whose name belongs to this content alone."""
        ...

    async def replace(self, folder: str, name: str, content: bytes, *, instead_of: StoredObject | None) -> None:
        """Write an object that changes. When it can be seen, all that was written below the folder before can be too.

        instead_of: what it was when it was read; None: it wasn't there. Where the bucket can tell that it is another
        one by now, nothing is written.

        Raises:
            Publishing: it is another one by now.
        """
        ...

    async def remove(self, folder: str, names: Collection[str]) -> None:
        """Delete the objects; those that are gone are no trouble."""
        ...


@dataclass(frozen=True, slots=True)
class WantedBucket:
    """A bucket as a request names it."""

    name: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketReport:
    """What was done in one bucket.

    objects: that the bundle has. written: of these, new ones. removed: of older bundles.
    """

    name: str
    url: str
    objects: int
    written: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReport:
    """A bundle that every wanted bucket has.

    version: the configuration's. unavailable: ids of certificates that a server group names and that have no material
    yet.
    """

    config: ConfigID
    version: int
    unavailable: Sequence[str]
    buckets: Sequence[BucketReport]


class BundlePublisher(Protocol):
    """Publishes edge bundles: the only one who writes to buckets."""

    async def publish(self, config: ConfigID, wanted: Sequence[WantedBucket]) -> PublishReport:
        """Write the configuration's bundle, as it is now, to the buckets; to the default one if none is named.

        Returns within 25 seconds. A repeat goes on where an earlier one stopped.

        Raises:
            NotFound: no such configuration.
            BadInput: a bucket isn't one of the settings', no recipient key is set, or buckets refuse us.
            Publishing: this configuration is being published.
            Unreachable: not every bucket has the bundle now; the message says which have.
        """
        ...

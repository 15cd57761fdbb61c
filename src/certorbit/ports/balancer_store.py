"""Listeners, attachments, copies, roll-outs, sites, regions, quotas, shelves: parts of the store."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from certorbit.model.balancer import HeldCopy, Listener, ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.deployment import Attachment, AttachmentID, Rollout
from certorbit.model.entry import ConfigID, EntryUID
from certorbit.model.operation import OperationID, Problem
from certorbit.model.site import Site, SiteID
from certorbit.model.standing import AttachmentGroup
from certorbit.model.target_look import TargetLook


class Listeners(Protocol):
    """The inventory: listeners as they were seen last. One query each."""

    def list(self) -> Sequence[Listener]:
        """Return all, by key."""

    def find(self, key: ListenerKey) -> Listener | None: ...
    def put(self, listener: Listener, *, now: datetime) -> None:
        """Insert or overwrite one."""

    def replace(self, target: str, listeners: Sequence[Listener], *, now: datetime) -> None:
        """Make these the target's listeners, seen now: others of it are forgotten."""

    def miss(self, target: str, problem: Problem, *, now: datetime) -> None:
        """Write down that the target did not answer now, and why. Its listeners stay as they were seen last."""

    def looks(self) -> Mapping[str, TargetLook]:
        """Return by target how the last look at it went; without those that nobody looked at yet."""

    def forget_targets(self, besides: Sequence[str]) -> None:
        """Forget the listeners of targets that are not in the settings any more, and the looks at them."""


class Attachments(Protocol):
    """At most one row per listener and entry, and at most one default per listener (among the wanted ones)."""

    def add(self, attachment: Attachment) -> None:
        """Insert it. Raises LostRace if the listener has one of that entry already."""

    def update(self, attachment: Attachment) -> None:
        """Write every field but id, listener and entry."""

    def delete(self, attachment: AttachmentID) -> None: ...
    def find(self, attachment: AttachmentID) -> Attachment | None: ...
    def list_some(self, attachments: Collection[AttachmentID]) -> Sequence[Attachment]:
        """Return those of these ids that there are, by listener key: one query."""

    def lock_listener(self, listener: ListenerKey) -> Sequence[Attachment]:
        """Return the listener's attachments, wanted or not, and hold the listener until the transaction ends.

        Two that attach to one listener at once count its room one after the other, also when it has none yet
        (PostgreSQL: an advisory lock of the transaction by the key's text).
        """

    def list_of_entry(self, entry: EntryUID) -> Sequence[Attachment]:
        """Return the entry's attachments, by listener key."""

    def list_of_target(self, target: str) -> Sequence[Attachment]: ...
    def list_of_listener(self, listener: ListenerKey) -> Sequence[Attachment]:
        """Return what `lock_listener` does, without holding anything."""

    def list(self, config: ConfigID | None = None) -> Sequence[Attachment]:
        """Return all attachments (of a configuration), by listener key and entry id."""

    def count_groups(self) -> Mapping[AttachmentGroup, int]:
        """Return how many there are of each sort: one query."""


class Copies(Protocol):
    def put(self, copy: HeldCopy) -> None:
        """Insert or overwrite by (target, scope, handle)."""

    def find(self, target: str, scope: str, entry: EntryUID) -> HeldCopy | None:
        """Return the entry's newest copy in the scope that isn't doomed."""

    def find_by_handle(self, target: str, handle: str) -> HeldCopy | None: ...
    def list_of_entry(self, entry: EntryUID) -> Sequence[HeldCopy]: ...
    def list_of_target(self, target: str) -> Sequence[HeldCopy]: ...
    def list_in_scope(self, target: str, scope: str, entry: EntryUID) -> Sequence[HeldCopy]:
        """Return the entry's copies in the scope, doomed ones too, by handle."""

    def list_handles(self, target: str, entry: EntryUID) -> frozenset[str]:
        """Return the handles of the entry's copies in all scopes of the target, doomed ones too."""

    def list(self, config: ConfigID | None = None) -> Sequence[HeldCopy]:
        """Return all copies that are not doomed (of a configuration), by target and handle."""

    def list_doomed(self, *, limit: int) -> Sequence[HeldCopy]: ...
    def delete(self, target: str, scope: str, handle: str) -> None: ...


class Rollouts(Protocol):
    """Each listener's part of each deployment, kept as long as its operation."""

    def put(self, rollout: Rollout) -> None:
        """Insert or overwrite by (operation, attachment)."""

    def find(self, operation: OperationID, attachment: AttachmentID) -> Rollout | None: ...
    def list(self, operations: Sequence[OperationID]) -> Sequence[Rollout]:
        """Return those of the operations, by operation and listener key: one query."""

    def list_some(self, operation: OperationID, attachments: Collection[AttachmentID]) -> Sequence[Rollout]:
        """Return those of an operation's that are of these attachments, by listener key: one query."""

    def delete_before(self, instant: datetime) -> int:
        """Delete those that were last written before then. Returns how many."""


class Sites(Protocol):
    def list(self, config: ConfigID) -> Sequence[Site]:
        """Return the stored sites by id (`__default__` is among them only if somebody changed it)."""

    def find(self, config: ConfigID, site: SiteID) -> Site | None: ...
    def put(self, site: Site) -> None:
        """Insert or overwrite."""

    def delete(self, config: ConfigID, site: SiteID) -> None: ...
    def list_using(self, config: ConfigID, entry_id: str) -> Sequence[Site]:
        """Return the stored sites whose `ssl_certificate` or `client_certificate` it is, by id."""


class Regions(Protocol):
    """Which datacenter serves which city, by load balancer; what isn't here is automatic."""

    def list(self) -> Mapping[str, Mapping[str, str]]:
        """Return city code → datacenter by load balancer id."""

    def put(self, load_balancer: str, regions: Mapping[str, str]) -> None:
        """Write the load balancer's choices instead of what it had."""


class Quotas(Protocol):
    def count(self, account: str, kind: str, *, since: datetime) -> int: ...
    def find_nth_newest(self, account: str, kind: str, *, nth: int) -> datetime | None:
        """Return when the nth newest use was (1: the newest); None if there were fewer."""

    def add(self, account: str, kind: str, *, at: datetime) -> None: ...
    def lock(self, account: str, kind: str) -> None:
        """Hold the quota until the transaction ends (PostgreSQL: an advisory lock of the transaction)."""

    def delete_before(self, instant: datetime) -> int: ...


@dataclass(frozen=True, slots=True)
class ShelvedItem:
    """A bundle on a target's shelf, sealed. bundle: what is not secret, as JSON text."""

    target: str
    name: str
    bundle: str
    sealed_key: bytes = field(repr=False)


class Shelves(Protocol):
    """What targets that serve certificates themselves keep here (`ports.target.Shelf`)."""

    def revision(self, target: str) -> int:
        """Return a number that is another one after every change of the shelf; 0 for one never written to."""

    def advance(self, target: str, *, at: int) -> bool:
        """Raise the revision from `at`, before a change, and hold the shelf until the transaction ends.

        Returns: False, with nothing changed, if the revision is another one by now.
        """

    def list_items(self, target: str) -> Sequence[ShelvedItem]: ...
    def list_slots(self, target: str) -> Mapping[str, str]: ...
    def put_items(self, items: Sequence[ShelvedItem]) -> None:
        """Insert or overwrite."""

    def delete_items(self, target: str, names: Collection[str]) -> None: ...
    def put_slots(self, target: str, slots: Mapping[str, str]) -> None:
        """Write these slots; an empty item name deletes the slot."""

    def list_policies(self, target: str) -> Mapping[str, ClientPolicy]:
        """Return what the target's listeners check clients by, by scope."""

    def put_policies(self, target: str, policies: Mapping[str, ClientPolicy | None]) -> None:
        """Write these policies by scope; None deletes the scope's."""


class NamedTurns(Protocol):
    """Whose turn it is at what only one may do at a time: publishing, changing a target. It ends when its holder died.

    name: of the thing, with what sort of thing it is in front: `publish:prod`.
    """

    def take(self, name: str, holder: str, *, now: datetime, until: datetime) -> bool:
        """Take the turn unless somebody else holds it now; return whether it is the holder's."""

    def is_taken(self, name: str, *, now: datetime) -> bool: ...
    def give_back(self, name: str, holder: str) -> None: ...

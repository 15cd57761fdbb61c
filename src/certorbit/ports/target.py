"""A target: one account, process or folder that holds certificates and lets listeners serve them.

Every method is safe to repeat: after a crash the same call comes again, and what is done already is found done. What a
method changes is in force when it returns, as far as the provider tells; the proof by a TLS handshake comes after
(`ports.prober`). Blocking SDKs run in threads. Each call has a time limit of its own and a bounded number of tries
with jitter for what is worth trying at once (throttling, a lost connection); everything else is the workflow's.

Errors are the same for all targets:

- TargetFull: a limit of the provider is reached (certificates of a listener, imports of a year). Nothing was changed.
- TargetGone: the listener, the load balancer or the copy that is named does not exist (any more).
- CredentialsRefused: the provider doesn't know us, or we have no right; the message names the right.
- Throttled: too many requests, also after the target's own tries.
- Unreachable: nobody answered (`phase`).
- TargetRefused: the provider says no to this certificate (key type, chain) or its configuration is broken by somebody
  else; the message has its own words. No private key is ever in a message.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from certorbit.model.balancer import Bundle, Copy, Listener, ListenerKey
from certorbit.model.client_policy import ClientPolicy


class Grade(StrEnum):
    """How a finding of `Target.check` is to be taken."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `certorbit targets check`.

    what: `reach`, `read`, `write`, or a right's own name (`acm:ImportCertificate`). message: what was seen, and for a
    failure what to do.
    """

    what: str
    grade: Grade
    message: str


class Target(Protocol):
    """One `[[targets]]` table."""

    @property
    def name(self) -> str:
        """Its name in the settings."""
        ...

    @property
    def provider(self) -> str:
        """`aws`, `gcp`, or `link11` for what the operator runs himself (contract.md)."""
        ...

    def scope_of(self, listener: ListenerKey) -> str:
        """Return the store that copies for this listener are kept in; asks nobody.

        Listeners of one scope share the copy of an entry, so they change to a new version together. The same text for
        ever: it is written down with the copies.
        """
        ...

    async def discover(self) -> Sequence[Listener]:
        """Return all TLS listeners with what they hold, by key."""
        ...

    async def look(self, listener: ListenerKey) -> Listener:
        """Return one listener as it is now. Raises TargetGone."""
        ...

    async def install(self, bundle: Bundle, *, scope: str, present: Copy | None) -> Copy:
        """Put a version's chain and key into the scope's store, and return its copy.

        present: the entry's copy in this scope as we last knew it; it may be gone. A target that can change a copy in
        place does so and returns the same handle: its listeners then serve the new version already. One that can't
        (immutable copies, another key type) makes a new copy and leaves the present one.
        A repeat with the same version finds the copy of the first run and makes no second one.
        Going back is the same call with the older version.
        """
        ...

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        """Let the listener serve the copy by SNI, beside its default. Harmless if it does (also as its default).

        instead_of: handle of an older copy of the same entry that is taken off the listener in the same change, or as
        soon as the new one is on; where it is the default, the new one becomes the default. "": none.
        """
        ...

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        """Make the copy the listener's default. What was the default before is not kept beside it."""
        ...

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        """Take the copy off the listener. Harmless if it isn't on it. Raises TargetRefused if it is the default."""
        ...

    async def remove(self, handle: str) -> None:
        """Delete the copy from the store. Harmless if it is gone. Raises TargetRefused while something uses it."""
        ...

    async def list_copies(self) -> Mapping[str, str]:
        """Return the handles of the copies in the store that this service made, each with the leaf's fingerprint.

        fingerprint: lower-case hex SHA-256 of the leaf's DER; "" where the provider doesn't show it.
        """
        ...

    async def check(self) -> Sequence[Finding]:
        """Find out whether the target can be reached, read and written, without changing what is served."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedTarget:
    """A target with what the settings say beside it.

    configurations: whose certificates may go there; none: all. grace_seconds: how long a change may take until every
    address of a listener serves it.
    """

    target: Target
    configurations: tuple[str, ...]
    grace_seconds: float

    def is_open_to(self, config: str) -> bool:
        return not self.configurations or config in self.configurations


class QuotaLedger(Protocol):
    """Counts what a provider allows only so often, over all processes and restarts."""

    async def spend(self, account: str, kind: str, *, limit: int, days: int) -> None:
        """Write down one use before it happens.

        account: for example `<account id>/<region>`. kind: for example `acm-import`.

        Raises:
            TargetFull: `limit` uses were written down within the last `days` days.
        """
        ...


@runtime_checkable
class VerifiesClients(Protocol):
    """A target whose listeners can check client certificates, for each of their certificates alone.

    One that is neither this nor `VerifiesListenerClients` is never given a certificate whose clients must be checked.
    """

    async def verify_clients(self, listener: ListenerKey, copy: Copy, policy: ClientPolicy | None) -> None:
        """Let the listener check the clients that are served this copy; None: it asks them for no certificate.

        In force when it returns, for the copy if the listener serves it, and from the first handshake on if it is
        attached later: it is called before `attach` and `set_default`. It stays until the next call or `remove`,
        through new versions of the copy, `detach`, and restarts of the proxy. A new policy takes the old one's place in
        one change: there is never a moment without either. `policy.ca_pem` says whose certificates are good; if
        `policy.crl_pem` isn't empty, one that a list has, or that no valid list is there for, is refused.
        Harmless to repeat.

        Raises, beside what all targets raise:
            TargetRefused: the policy can't be put into force here (the copy is the listener's default, a list is too
                long). What was in force is in force.
        """
        ...


@runtime_checkable
class VerifiesListenerClients(Protocol):
    """A target whose listeners check client certificates for all of their certificates alike.

    That they are all wanted alike is the caller's affair (`deploying.listener_policies`).
    """

    async def verify_listener_clients(self, listener: ListenerKey, policy: ClientPolicy | None) -> None:
        """Let the listener check all of its clients; None: what an earlier call put into force is lifted.

        In force when it returns, whatever the listener serves or is given later; it is called before `attach` and
        `set_default`. It stays until the next call, through all that the other methods do and through restarts of the
        proxy. For the rest as `VerifiesClients.verify_clients`: one change, never a moment without either, CRLs.
        A check that somebody else set up on the listener is not ours: None leaves it alone, a policy is refused.
        Harmless to repeat.

        Raises, beside what all targets raise:
            TargetRefused: the policy, or being without one, can't be put into force here (this kind of listener can't
                check clients, or not in this mode; the proxy's own configuration isn't made for it). What was in force
                is in force.
        """
        ...


@runtime_checkable
class Startable(Protocol):
    """A target that serves by itself while the service runs. Commands of one turn (`targets check`) don't start it."""

    async def start(self) -> None:
        """Open what it serves with; `close` ends it. Raises BadInput if the settings don't allow it (a taken port)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfItem:
    """A certificate that we serve to proxies ourselves. sealed in the store; open only in this value."""

    name: str
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class ShelfState:
    """A target's whole shelf.

    revision: another number whenever something on it changed; 0: nothing was ever on it. items: by name.
    slots: the item's name by slot, used ones only; an item that isn't there any more may be named.
    policies: by scope (`Target.scope_of`), what listeners check clients by.
    """

    revision: int
    items: tuple[ShelfItem, ...]
    slots: Mapping[str, str]
    policies: Mapping[str, ClientPolicy] = field(default_factory=dict)


class Shelf(Protocol):
    """What a target that serves certificates itself (Envoy's SDS) keeps in the store, so that every process can.

    A shelf belongs to one target. `slots` maps names that proxies ask for to the names of items. Whatever goes wrong
    in the store is a CertorbitError.
    """

    async def revision(self) -> int:
        """Return the shelf's revision alone; asked about once a second by every process."""
        ...

    async def load(self) -> ShelfState:
        """Return the shelf as it is at one instant."""
        ...

    async def change(
        self,
        *,
        at: int,
        put: Sequence[ShelfItem] = (),
        remove: Collection[str] = (),
        slots: Mapping[str, str] | None = None,
        policies: Mapping[str, ClientPolicy | None] | None = None,
    ) -> ShelfState:
        """Change the shelf in one transaction and return it as it is then, with a new revision.

        at: the revision that the change was planned on.
        put: new items, or new bundles for their names. remove: names of items; harmless if they are gone.
        slots: those to write; an empty item name frees the slot; others stay.
        policies: those to write by scope; None takes the scope's off; others stay.

        Raises:
            LostRace: the shelf's revision is another one by now; nothing was changed.
        """
        ...

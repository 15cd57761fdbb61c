"""From a shelf to secrets: which slot of which listener holds which item, and what proxies get for each slot.

A listener's first secret is its default certificate, each further one a slot for a certificate that Envoy chooses by
SNI. Everything here is pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from certorbit.errors import TargetFull, TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy, ListenerKey
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.material import Material
from certorbit.ports.target import ShelfItem, ShelfState
from certorbit.targets.envoy.messages import Secret, TLSCertificate
from certorbit.targets.envoy.session import Catalog


@dataclass(frozen=True, slots=True)
class Place:
    """A listener of the settings.

    secrets: the default's name first. clients_secret: of its validation context; "": it has none of ours.
    demands_certificates: Envoy's own configuration lets no client in without one.
    """

    key: ListenerKey
    secrets: tuple[str, ...]
    clients_secret: str = ""
    demands_certificates: bool = False

    @property
    def scope(self) -> str:
        """Each listener has copies of its own, so that each changes to a new version by itself."""
        return f"{self.key.listener}:{self.key.port}"

    @property
    def default(self) -> str:
        return self.secrets[0]

    def handle_of(self, bundle: Bundle) -> str:
        """Return an entry's handle here: of this entry alone, also when its id is given to another one later."""
        return f"{self.scope}/{bundle.entry_id}/{bundle.entry_uid}"

    def owns(self, handle: str) -> bool:
        return handle.startswith(f"{self.scope}/")

    def held(self, state: ShelfState) -> Mapping[str, str]:
        """Return the handle by secret, of those that are used."""
        items = {item.name for item in state.items}
        return {secret: item for secret in self.secrets if (item := state.slots.get(secret, "")) in items}


def make_catalog(places: Iterable[Place], state: ShelfState, placeholder: Material) -> Catalog:
    """Return every secret for a certificate that is in the settings.

    Envoy opens a listener when it has all of its secrets. So a free slot holds the default's certificate again, which
    changes nothing in what is served, and a default that isn't there yet is the placeholder.
    """
    items = {item.name: item.bundle for item in state.items}
    catalog = {}
    for place in places:
        held = place.held(state)
        default = held.get(place.default)
        for name in place.secrets:
            item = held.get(name, default)
            catalog[name] = _make_secret(name, items[item]) if item else _make_filler(name, placeholder)
    return catalog


def _make_secret(name: str, bundle: Bundle) -> Secret:
    version = f"{bundle.version}-{bundle.facts.fingerprint[:16]}"
    return Secret(name=name, version=version, content=TLSCertificate(chain_pem=bundle.chain_pem, key=bundle.key))


def _make_filler(name: str, placeholder: Material) -> Secret:
    assert placeholder.key is not None
    version = f"placeholder-{placeholder.facts.fingerprint[:16]}"
    content = TLSCertificate(chain_pem=placeholder.chain_pem, key=placeholder.key)
    return Secret(name=name, version=version, content=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be written on a shelf. handle: the item, or the clients_secret, that it is about."""

    handle: str
    put: tuple[ShelfItem, ...] = ()
    remove: tuple[str, ...] = ()
    slots: Mapping[str, str] | None = None
    policies: Mapping[str, ClientPolicy | None] | None = None

    @property
    def is_needed(self) -> bool:
        return bool(self.put or self.remove or self.slots or self.policies)


def plan_install(state: ShelfState, place: Place, bundle: Bundle) -> Change:
    handle = place.handle_of(bundle)
    present = _find(state, handle)
    is_same = present is not None and (present.bundle.version, present.bundle.facts) == (bundle.version, bundle.facts)
    return Change(handle=handle, put=() if is_same else (ShelfItem(name=handle, bundle=bundle),))


def plan_attach(state: ShelfState, place: Place, copy: Copy, *, instead_of: str) -> Change:
    """Give the copy the slot of the older one, else the first free one.

    Raises:
        TargetGone: there is no such copy for this listener.
        TargetFull: no slot is free.
    """
    _check_copy(state, place, copy)
    held = place.held(state)
    olds = [secret for secret, handle in held.items() if handle == instead_of != copy.handle]
    if copy.handle not in held.values():
        free = [secret for secret in place.secrets[1:] if secret not in held]
        if not olds and not free:
            raise TargetFull(
                f"{place.key}: all {len(place.secrets) - 1} slots beside the default are used; give the listener more"
                " secrets, in the settings and in Envoy's configuration.",
                subject=str(place.key),
            )
        return Change(handle=copy.handle, slots={(olds or free)[0]: copy.handle})
    if place.default in olds:
        return plan_default(state, place, copy)
    return Change(handle=copy.handle, slots=dict.fromkeys(olds, ""))


def plan_default(state: ShelfState, place: Place, copy: Copy) -> Change:
    """Give the copy the first slot and free its other one. Raises TargetGone: no such copy for this listener."""
    _check_copy(state, place, copy)
    held = place.held(state)
    slots = {secret: "" for secret, handle in held.items() if handle == copy.handle and secret != place.default}
    if held.get(place.default) != copy.handle:
        slots[place.default] = copy.handle
    return Change(handle=copy.handle, slots=slots)


def plan_detach(state: ShelfState, place: Place, handle: str) -> Change:
    """Free the handle's slot. Raises TargetRefused: it is the default."""
    held = place.held(state)
    if held.get(place.default) == handle:
        raise TargetRefused(
            f"{place.key}: {handle!r} is the listener's default certificate; make another one the default first.",
            subject=str(place.key),
        )
    return Change(handle=handle, slots={secret: "" for secret, item in held.items() if item == handle})


def plan_remove(state: ShelfState, places: Sequence[Place], handle: str) -> Change:
    """Take the item off the shelf. Slots that the settings don't have any more don't hold it there.

    Raises:
        TargetRefused: a listener holds it.
    """
    for place in places:
        if handle in place.held(state).values():
            raise TargetRefused(f"{place.key} holds {handle!r}; detach it first.", subject=str(place.key))
    if _find(state, handle) is None:
        return Change(handle=handle)
    forgotten = {secret: "" for secret, item in state.slots.items() if item == handle}
    return Change(handle=handle, remove=(handle,), slots=forgotten)


def plan_undo(now: ShelfState, done: Change, before: ShelfState) -> Change:
    """Return the change that puts back what `done` changed, as far as nobody changed it again since."""
    olds = {item.name: item for item in before.items}
    ours = [item for item in done.put if _find(now, item.name) == item]
    slots = {
        secret: before.slots.get(secret, "")
        for secret, handle in (done.slots or {}).items()
        if now.slots.get(secret, "") == handle
    }
    policies = {
        scope: before.policies.get(scope)
        for scope, policy in (done.policies or {}).items()
        if now.policies.get(scope) == policy
    }
    return Change(
        handle=done.handle,
        put=tuple(olds[item.name] for item in ours if item.name in olds),
        remove=tuple(item.name for item in ours if item.name not in olds),
        slots=slots,
        policies=policies,
    )


def find_slots(state: ShelfState, places: Iterable[Place], handle: str) -> frozenset[str]:
    """Return the secrets that hold the item."""
    return frozenset(secret for place in places for secret, item in place.held(state).items() if item == handle)


def _find(state: ShelfState, name: str) -> ShelfItem | None:
    return next((item for item in state.items if item.name == name), None)


def _check_copy(state: ShelfState, place: Place, copy: Copy) -> None:
    if not place.owns(copy.handle) or _find(state, copy.handle) is None:
        raise TargetGone(
            f"{place.key}: there is no copy {copy.handle!r} for this listener; install it first.",
            subject=str(place.key),
        )

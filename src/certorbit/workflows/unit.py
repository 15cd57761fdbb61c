"""A unit of a roll-out: the listeners that share one copy of an entry, and so change to a new version together.

What is written down before each change, and how a unit goes back, is in docs/deploy-cycle.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from certorbit.errors import CertorbitError, DeployFailed, NotServed, Outside, TargetRefused, Throttled
from certorbit.model.balancer import Bundle, Copy, Listener
from certorbit.model.deployment import Attachment, Proof, Snapshot, Stage
from certorbit.model.entry import Entry, Version, key_context
from certorbit.model.material import PrivateKeyPEM
from certorbit.ports.keyring import Keyring
from certorbit.ports.target import PlacedTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The attachments of one entry in one scope of one target."""

    placed: PlacedTarget
    scope: str
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a listener. listener: as it was seen last; None if it could not be looked at."""

    stage: Stage
    handle: str = ""
    proof: Proof | None = None
    error: CertorbitError | None = None
    listener: Listener | None = None


def make_bundle(entry: Entry, version: Version, *, keyring: Keyring) -> Bundle:
    """Return what a target is given; the key is opened here.

    Raises:
        TargetRefused: the version has no key (a CA bundle).
        Broken: the keyring can't open it.
    """
    if version.sealed_key is None:
        raise TargetRefused(f"The certificate {entry.id!r} has no private key; no listener can serve it.")
    return Bundle(
        config=entry.config,
        entry_id=entry.id,
        entry_uid=entry.uid,
        version=version.id,
        chain_pem=version.chain_pem,
        key=PrivateKeyPEM(keyring.open(version.sealed_key, context=key_context(version.id)).decode()),
        facts=version.facts,
    )


def is_worth_another_try(error: CertorbitError) -> bool:
    """Return whether the same may work within seconds: nobody answered, or we were too quick."""
    return isinstance(error, Throttled) or (isinstance(error, Outside) and not isinstance(error, DeployFailed))


async def switch(
    placed: PlacedTarget,
    attachment: Attachment,
    copy: Copy,
    *,
    own: frozenset[str],
    displaced: str,
    kept: frozenset[str],
) -> Listener:
    """Let a listener serve the copy as it is wanted; return the listener as it is then. Repeating it is harmless.

    own: handles of this entry's copies in the scope. displaced: handle of the entry whose place it takes, or "": both
    are for the same names, so while both are on the listener nobody can say which one is served.
    kept: handles of others that stay wanted on the listener: the former default gets a place beside the new one.
    """
    target, key = placed.target, attachment.listener
    now = await target.look(key)
    old = [handle for handle in now.handles if handle in own and handle != copy.handle]
    if attachment.is_default and now.default != copy.handle:
        if now.default in old:
            await target.attach(key, copy, instead_of=now.default)
        else:
            await target.set_default(key, copy)
            if now.default in kept and now.max_certificates > 0:
                await target.attach(key, Copy(handle=now.default, link=""), instead_of="")
    elif not now.holds(copy.handle):
        taken = displaced if displaced in now.certificates and displaced != now.default else ""
        await target.attach(key, copy, instead_of=old[0] if old else taken)
    now = await target.look(key)
    left = [h for h in now.handles if h in own | {displaced} and h not in {copy.handle, now.default}]
    for handle in left:
        await target.detach(key, handle)
    return await target.look(key) if left else now


async def restore(
    placed: PlacedTarget, attachment: Attachment, before: Snapshot, *, new: str, renamed: Mapping[str, str]
) -> Listener:
    """Let a listener hold again what it held before; return it as it is then. Repeating it is harmless.

    new: handle of the copy that failed. renamed: handles of before that are others now: a copy that was made anew.

    Raises:
        TargetRefused: it had no default before and can't be without one now.
    """
    target, key = placed.target, attachment.listener
    default = renamed.get(before.default, before.default)
    others = [renamed.get(handle, handle) for handle in before.certificates]
    now = await target.look(key)
    if default and now.default != default:
        await target.set_default(key, Copy(handle=default, link=""))
        now = await target.look(key)
    for handle in others:
        if not now.holds(handle):
            await target.attach(key, Copy(handle=handle, link=""), instead_of="")
    if new not in {default, *others} and now.holds(new):
        await target.detach(key, new)
    return await target.look(key)


def snapshot_of(listener: Listener) -> Snapshot:
    return Snapshot(default=listener.default, certificates=listener.certificates)


def not_served(attachment: Attachment, proof: Proof) -> NotServed:
    return NotServed(
        f"{attachment.listener} does not serve {attachment.entry_id!r}: {proof.message}",
        subject=str(attachment.listener),
    )

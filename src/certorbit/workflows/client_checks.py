"""How a unit's listeners come to check client certificates, by whichever of the two ways their target has.

`VerifiesClients`: for each copy alone. `VerifiesListenerClients`: for all that the listener serves, which then has to
be ours, and of one mind (`deploying.listener_policies`).
"""

from collections.abc import Mapping

import structlog

from certorbit.deploying.client_policies import ClientPolicies
from certorbit.deploying.listener_policies import check_agreement, find_others_policy, list_others
from certorbit.errors import TargetRefused
from certorbit.model.balancer import Copy, Listener
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.deployment import Attachment
from certorbit.model.entry import Entry
from certorbit.ports.store import Store, UnitOfWork
from certorbit.ports.target import PlacedTarget, Target, VerifiesClients, VerifiesListenerClients
from certorbit.workflows.unit import Unit

log = structlog.get_logger(__name__)

Policies = Mapping[str, ClientPolicy | None]  # by attachment


def find_policies(tx: UnitOfWork, entry: Entry, unit: Unit) -> Policies:
    """Return what each listener of the unit is to check clients by.

    Raises:
        TargetRefused: its server groups disagree, or other certificates of a listener do, or the target can't check
            clients at all. Better not served than served openly.
    """
    policies = ClientPolicies(tx, entry)
    found: dict[str, ClientPolicy | None] = {at.id: policies.of(at) for at in unit.attachments}
    target = unit.placed.target
    if isinstance(target, VerifiesListenerClients):
        for attachment in unit.attachments:
            check_agreement(tx, attachment, found[attachment.id])
    elif not isinstance(target, VerifiesClients) and any(found.values()):
        raise _cannot(unit.attachments[0], target)
    return found


async def check_only_ours(store: Store, unit: Unit, policies: Policies, looks: Mapping[str, Listener]) -> None:
    """Make sure that a listener which is to check all of its clients serves nothing that somebody else put there.

    What the entry takes the place of doesn't count.

    Raises:
        TargetRefused: it does; its clients would be checked too, which nobody asked for.
    """
    checked = [at for at in unit.attachments if policies[at.id] is not None]
    if not checked or not isinstance(unit.placed.target, VerifiesListenerClients):
        return
    copies = await store.read(lambda tx: tx.copies.list_of_target(unit.placed.target.name))
    ours = {copy.handle for copy in copies}
    for attachment in checked:
        seen = looks[attachment.id]
        goes = seen.default if attachment.is_default else ""
        strangers = [handle for handle in seen.handles if handle not in ours | {goes}]
        if strangers:
            raise TargetRefused(
                f"{attachment.listener} also serves {strangers[0]}, which Certorbit didn't put there, and checks the"
                f" clients of all of its certificates alike. Take it off, or let {attachment.entry_id!r} take its place"
                " as the default, before its clients are checked (docs/mutual-tls.md).",
                subject=str(attachment.listener),
            )


async def verify(placed: PlacedTarget, attachment: Attachment, handle: str, policy: ClientPolicy | None) -> None:
    """Let the listener check clients of the copy by the policy. Before it is attached: it is never served openly."""
    target = placed.target
    if isinstance(target, VerifiesClients):
        await target.verify_clients(attachment.listener, Copy(handle=handle, link=""), policy)
    elif isinstance(target, VerifiesListenerClients):
        await target.verify_listener_clients(attachment.listener, policy)


async def verify_others(store: Store, placed: PlacedTarget, attachment: Attachment) -> None:
    """Let the listener check clients as those want whom it serves without this attachment's certificate.

    For after that one is off it again.
    """
    if isinstance(placed.target, VerifiesListenerClients):
        await _tell(placed.target, attachment, await store.read(lambda tx: find_others_policy(tx, attachment)))


async def lift_unneeded(store: Store, placed: PlacedTarget, attachment: Attachment) -> None:
    """Lift the check of a listener that this attachment's certificate was the last one of ours on."""
    target = placed.target
    if isinstance(target, VerifiesListenerClients) and not await store.read(lambda tx: list_others(tx, attachment)):
        await _tell(target, attachment, None)


async def _tell(target: VerifiesListenerClients, attachment: Attachment, policy: ClientPolicy | None) -> None:
    try:
        await target.verify_listener_clients(attachment.listener, policy)
    except TargetRefused as error:  # its configuration can't do without a check: nobody gets in then, which is safe
        log.warning("deployment.check_stays", listener=str(attachment.listener), message=error.message)


def _cannot(attachment: Attachment, target: Target) -> TargetRefused:
    return TargetRefused(
        f"{attachment.listener}: the target {target.name!r} can't check client certificates, and a server group demands"
        f" it for {attachment.entry_id!r} (client_certificate_mode). Set the mode to off, or use another target"
        " (docs/mutual-tls.md).",
        subject=str(attachment.listener),
    )

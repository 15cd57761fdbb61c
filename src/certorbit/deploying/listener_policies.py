"""Who has to agree where a listener checks all of its clients alike (`ports.target.VerifiesListenerClients`).

A certificate's policy comes from its server groups (`client_policies`). On such a listener it holds for every other
certificate too. So nothing is changed unless all of them want the same; there is no strictest one here, for that would
shut out clients that nobody wanted to check. One that is leaving the listener has no say in being closed, but its
check is never lifted by the one that comes.
"""

from collections.abc import Mapping, Sequence

from certorbit.deploying.client_policies import ClientPolicies, Demand, find_demand
from certorbit.errors import TargetRefused
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.deployment import Attachment, AttachmentID, Stage, Wanted
from certorbit.model.site import Site
from certorbit.ports.store import UnitOfWork


def check_agreement(tx: UnitOfWork, attachment: Attachment, policy: ClientPolicy | None) -> None:
    """Make sure that the listener may check all of its clients as this attachment's certificate wants.

    Raises:
        TargetRefused: another certificate that it serves wants something else.
    """
    wanted = Demand(policy.mode, policy.bundle) if policy is not None else None
    others = list_others(tx, attachment)
    demands = _find_demands(tx, others)
    for other in others:
        leaves = other.wanted is Wanted.DETACHED or other.entry_uid == attachment.replaces
        demand = demands[other.id]
        if demand == wanted or (leaves and demand is None):
            continue
        raise TargetRefused(
            f"{attachment.listener} checks the clients of all of its certificates alike: {attachment.entry_id!r}"
            f" {_show(wanted)}, {other.entry_id!r} {_show(demand)}. Give the server groups that serve them the same"
            " client_certificate and client_certificate_mode, or put one of them on another listener"
            " (docs/mutual-tls.md).",
            subject=str(attachment.listener),
        )


def find_others_policy(tx: UnitOfWork, attachment: Attachment) -> ClientPolicy | None:
    """Return what the listener's clients are to be checked by if it doesn't serve this attachment's certificate.

    Raises:
        TargetRefused: the bundle is gone.
    """
    others = list_others(tx, attachment)
    demands = _find_demands(tx, others)
    for other in others:
        entry = tx.entries.get_by_uid(other.entry_uid) if demands[other.id] is not None else None
        if entry is not None:
            return ClientPolicies(tx, entry).of(other)
    return None


def list_others(tx: UnitOfWork, attachment: Attachment) -> list[Attachment]:
    """Return the listener's other attachments that it may be serving now."""
    rows = tx.attachments.list_of_listener(attachment.listener)
    return [row for row in rows if row.id != attachment.id and _may_be_served(row)]


def _may_be_served(row: Attachment) -> bool:
    """Return whether the listener has it, or a change that may have put it there isn't over."""
    return bool(row.handle) or row.stage in {Stage.CHANGING, Stage.UNSETTLED}


def _find_demands(tx: UnitOfWork, rows: Sequence[Attachment]) -> Mapping[AttachmentID, Demand | None]:
    """Return what each one's certificate wants: one query per configuration, for a listener may have a thousand."""
    groups: dict[tuple[str, str], list[Site]] = {}
    for config in sorted({row.config for row in rows}):
        for site in tx.sites.list(config):
            groups.setdefault((config, site.ssl_certificate), []).append(site)
    return {row.id: find_demand(groups.get((row.config, row.entry_id), ()), row) for row in rows}


def _show(demand: Demand | None) -> str:
    return f"wants mode {demand.mode} with {demand.bundle!r}" if demand is not None else "wants mode off"

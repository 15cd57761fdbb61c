"""Which clients a certificate's listeners let in: what server groups say, resolved; and what follows when they change.

A certificate has one policy, on all listeners. Of several server groups that serve it the strictest mode holds; their
bundles must be the same one, for a mixture would let the clients of one into the other. Only server groups that say
`off` lift a check: a certificate that none names any more, but that listeners still hold, keeps what they check its
clients by. Else moving a server group to a new certificate would open the old one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from certorbit.deploying.starting import PRIORITY_INTERACTIVE, ensure_deployment
from certorbit.errors import TargetRefused
from certorbit.model.client_policy import ClientPolicy
from certorbit.model.deployment import Attachment, Wanted
from certorbit.model.entry import PLACEHOLDER, ConfigID, Entry, EntryID, Side, is_entry_id
from certorbit.model.site import ClientCertificateMode, Site
from certorbit.ports.store import UnitOfWork


@dataclass(frozen=True, slots=True)
class Demand:
    """A policy in words. bundle: the id of an entry of the certificate's configuration."""

    mode: ClientCertificateMode
    bundle: str


def find_demand(sites: Sequence[Site], attachment: Attachment) -> Demand | None:
    """Return what the clients of an attachment are to be checked by; None: nobody is asked.

    sites: the server groups that serve its certificate.
    """
    if checking := find_checking(sites):
        return Demand(checking[0].client_certificate_mode, checking[0].client_certificate)
    if sites or attachment.client_policy is None:
        return None
    return Demand(attachment.client_policy.mode, attachment.client_policy.bundle)


def find_sites(tx: UnitOfWork, config: ConfigID, entry_id: str) -> list[Site]:
    """Return the server groups that serve the certificate."""
    return [site for site in tx.sites.list_using(config, entry_id) if site.ssl_certificate == entry_id]


def find_checking(sites: Sequence[Site]) -> list[Site]:
    """Return the server groups that check clients, the strictest mode first."""
    checking = [site for site in sites if site.client_certificate_mode is not ClientCertificateMode.OFF]
    return sorted(checking, key=lambda site: site.client_certificate_mode is not ClientCertificateMode.ON)


def find_disagreeing(sites: Sequence[Site]) -> Sequence[Site]:
    """Return two server groups of one certificate that check clients by different bundles; none if there are none."""
    checking = find_checking(sites)
    other = next((site for site in checking if site.client_certificate != checking[0].client_certificate), None)
    return () if other is None else (checking[0], other)


class ClientPolicies:
    """What the listeners of one certificate are to check its clients by, as it stands in one transaction."""

    def __init__(self, tx: UnitOfWork, entry: Entry) -> None:
        self._tx = tx
        self._entry = entry
        self._sites = find_sites(tx, entry.config, entry.id)
        self._resolved: dict[Demand, ClientPolicy] = {}

    def of(self, attachment: Attachment) -> ClientPolicy | None:
        """Return the policy for one attachment of the certificate, with the bundle as it is now.

        Raises:
            TargetRefused: the server groups disagree, or the bundle is gone. Better not served than served openly.
        """
        if two := find_disagreeing(self._sites):
            raise TargetRefused(
                f"The server groups {two[0].id!r} and {two[1].id!r} serve the certificate {self._entry.id!r} and check"
                " clients by different bundles (client_certificate). Make them agree, or give one of them a certificate"
                " of its own.",
                subject=self._entry.id,
            )
        demand = find_demand(self._sites, attachment)
        return self._resolve(demand) if demand is not None else None

    def is_in_force(self, attachment: Attachment) -> bool:
        """Return whether the attachment's target was last told what is wanted now."""
        try:
            policy = self.of(attachment)
        except TargetRefused:
            return False
        return attachment.client_policy == (policy.mark if policy is not None else None)

    def _resolve(self, demand: Demand) -> ClientPolicy:
        known = self._resolved.get(demand)
        if known is None:
            known = self._resolved[demand] = self._read(demand)
        return known

    def _read(self, demand: Demand) -> ClientPolicy:
        bundle_id = demand.bundle
        config = self._entry.config
        bundle = self._tx.entries.find(config, EntryID(bundle_id)) if is_entry_id(bundle_id) else None
        if bundle is None or bundle.side is not Side.CLIENT_CA or bundle.current is None:
            raise TargetRefused(
                f"Clients of the certificate {self._entry.id!r} are to be checked by {bundle_id!r}, and there is no"
                f" such bundle of side clientCA in configuration {config!r}. Upload it, or set client_certificate_mode"
                " to off.",
                subject=self._entry.id,
            )
        return ClientPolicy(
            mode=demand.mode, bundle=bundle.id, ca_pem=bundle.current.chain_pem, crl_pem="".join(bundle.crl)
        )


def redeploy_changed(
    tx: UnitOfWork, config: ConfigID, entry_ids: Iterable[str], *, now: datetime, new_id: Callable[[], str]
) -> None:
    """Start the deployment of each certificate whose listeners check clients by something else than is wanted now.

    entry_ids: of certificates whose policy may have changed in this transaction; unknown ones are passed over.
    """
    for entry_id in sorted(set(entry_ids) - {"", PLACEHOLDER}):
        entry = tx.entries.find(config, EntryID(entry_id)) if is_entry_id(entry_id) else None
        if entry is None:
            continue
        rows = [row for row in tx.attachments.list_of_entry(entry.uid) if row.wanted is Wanted.ATTACHED]
        policies = ClientPolicies(tx, entry)
        if not all(map(policies.is_in_force, rows)):
            ensure_deployment(tx, entry, priority=PRIORITY_INTERACTIVE, now=now, new_id=new_id)


def redeploy_bundle(tx: UnitOfWork, bundle: Entry, *, now: datetime, new_id: Callable[[], str]) -> None:
    """Start the deployments that a bundle's new version, or its newer CRLs, make necessary; harmless for others."""
    if bundle.side is not Side.CLIENT_CA:
        return
    served = {site.ssl_certificate for site in tx.sites.list_using(bundle.config, bundle.id)}
    served |= {row.entry_id for row in list_checked_by(tx, bundle)}
    redeploy_changed(tx, bundle.config, served, now=now, new_id=new_id)


def list_checked_by(tx: UnitOfWork, bundle: Entry) -> list[Attachment]:
    """Return the attachments whose clients are checked by the bundle; none for an entry of another side."""
    if bundle.side is not Side.CLIENT_CA:
        return []
    return [
        row
        for row in tx.attachments.list(bundle.config)
        if row.client_policy is not None and row.client_policy.bundle == bundle.id
    ]

"""Joins what finds out about revocations: the guarded download, the lists, the look, and what replaces the revoked."""

from collections.abc import Sequence
from datetime import datetime

from certorbit.app.ground import CHANCE, CLOCK, new_id
from certorbit.internal_ca.authority import InternalAuthority
from certorbit.model.crl import Verdict
from certorbit.model.entry import Entry
from certorbit.model.operation import Operation
from certorbit.net.fetch import GuardedFetcher
from certorbit.net.outbound_rules import rules_from
from certorbit.observe.metrics import Metrics
from certorbit.ports.issuer import Issuer
from certorbit.ports.store import Store, UnitOfWork
from certorbit.revocation.lists import CRLLists
from certorbit.services import revocation
from certorbit.services.permitting import issuers_for
from certorbit.settings import Settings
from certorbit.workflows import bundle_look
from certorbit.workflows.bundle_look import BundleLook
from certorbit.workflows.periodic import Periodic
from certorbit.workflows.revocation_look import INTERVAL, Replace, RevocationLook


def make_revocation_looks(
    settings: Settings,
    *,
    store: Store,
    issuers: Sequence[Issuer],
    authority: InternalAuthority | None,
    metrics: Metrics,
) -> tuple[Periodic, Periodic]:
    """Return the look at revocations, and the one at the lists of CA bundles."""
    lists = CRLLists(
        store=store,
        fetcher=GuardedFetcher(rules_from(settings.outbound)),
        own=authority,
        settings=settings.revocation,
        clock=CLOCK,
        chance=CHANCE,
        metrics=metrics,
    )
    look = RevocationLook(
        store=store, source=lists, clock=CLOCK, replace=_make_replace(settings, issuers), metrics=metrics
    )
    bundles = BundleLook(store=store, source=lists, clock=CLOCK, new_id=new_id)
    return (
        Periodic("revocation", look.sweep, every=INTERVAL, clock=CLOCK, chance=CHANCE),
        Periodic(bundle_look.NAME, bundles.sweep, every=bundle_look.INTERVAL, clock=CLOCK, chance=CHANCE),
    )


def _make_replace(settings: Settings, issuers: Sequence[Issuer]) -> Replace:
    """Join the look with the use-case (`workflows.revocation_look.Replace`)."""
    by_config = settings.issuers_by_configuration()

    def replace(tx: UnitOfWork, entry: Entry, *, verdict: Verdict, is_news: bool, now: datetime) -> Operation | None:
        return revocation.replace_revoked(
            tx,
            entry,
            verdict=verdict,
            is_news=is_news,
            issuers=issuers_for(entry.config, issuers, by_config),
            now=now,
            new_id=new_id,
        )

    return replace

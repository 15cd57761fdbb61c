"""Joins what issues: the built-in CA, the issuers of the settings, the issuance workflow."""

import asyncio
from collections.abc import Sequence

from certorbit.acme.issuer import ACMEIssuer
from certorbit.app.ground import CHANCE, CLOCK, new_id
from certorbit.internal_ca.authority import InternalAuthority
from certorbit.internal_ca.issuer import InternalIssuer
from certorbit.model.ca_limits import policy_from
from certorbit.model.material import KeyType
from certorbit.net.resolve import Resolution
from certorbit.ports.issuer import Issuer
from certorbit.ports.keyring import Keyring
from certorbit.ports.solver import Solver
from certorbit.ports.store import JobKind, Store
from certorbit.settings import IssuerSettings, Settings
from certorbit.workflows.engine import Engine
from certorbit.workflows.issuance import Issuance
from certorbit.workflows.watch import Watch


async def make_authority(
    settings: Settings, *, store: Store, keyring: Keyring, public_url: str
) -> InternalAuthority | None:
    """Return the built-in CA, made if it is new; None if no issuer of the settings is the built-in one."""
    if not any(issuer.type == "internal" for issuer in settings.all_issuers()):
        return None
    authority = InternalAuthority(
        store=store, keyring=keyring, clock=CLOCK, settings=settings.internal_ca, public_url=public_url
    )
    await authority.ensure()
    return authority


def make_issuers(
    settings: Settings,
    *,
    store: Store,
    keyring: Keyring,
    authority: InternalAuthority | None,
    solvers: Sequence[Solver],
) -> list[Issuer]:
    """Return the issuers of the settings, in order of preference."""
    return [
        _make_issuer(settings, issuer, store=store, keyring=keyring, authority=authority, solvers=solvers)
        for issuer in settings.all_issuers()
    ]


def _make_issuer(
    settings: Settings,
    issuer: IssuerSettings,
    *,
    store: Store,
    keyring: Keyring,
    authority: InternalAuthority | None,
    solvers: Sequence[Solver],
) -> Issuer:
    if issuer.type == "internal" and authority is not None:
        return InternalIssuer(issuer.name, authority=authority)
    return ACMEIssuer(
        settings=issuer,
        store=store,
        keyring=keyring,
        solvers=solvers,
        caa=Resolution() if settings.issuance.check_caa else None,
        clock=CLOCK,
        chance=CHANCE,
        max_requests_in_flight=settings.acme_max_in_flight,
    )


def register_issuance(
    engine: Engine,
    settings: Settings,
    *,
    store: Store,
    keyring: Keyring,
    issuers: Sequence[Issuer],
    watch: Watch,
) -> None:
    """Define the issuance workflow."""
    issuance = Issuance(
        store=store,
        keyring=keyring,
        issuers=issuers,
        by_config=settings.issuers_by_configuration(),
        clock=CLOCK,
        chance=CHANCE,
        key_type=KeyType(settings.issuance.key_type),
        reuse_key=settings.issuance.reuse_key,
        limits=policy_from(settings.limits),
        new_id=new_id,
        wake=watch.notify,
        slots=asyncio.Semaphore(settings.acme_max_in_flight),
    )
    engine.register(JobKind.ISSUE.value, issuance.run, on_broken=issuance.record_broken)

"""Joins what deploys: the targets of the settings, the deployment workflow, the look at all listeners."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from certorbit.app.ground import CHANCE, CLOCK, new_id
from certorbit.deploying.quota import StoredQuota
from certorbit.deploying.shelf import StoredShelf
from certorbit.deploying.unstored import EmptyShelf, NoQuota
from certorbit.net.probe import TLSProber
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import JobKind, Store
from certorbit.settings import Settings
from certorbit.targets.assembly import Targets, make_targets
from certorbit.workflows.deployment import Deployment
from certorbit.workflows.engine import Engine
from certorbit.workflows.inventory import Inventory
from certorbit.workflows.proof import Prover
from certorbit.workflows.rollout import Roller
from certorbit.workflows.turns import ScopeTurns
from certorbit.workflows.watch import Watch


@asynccontextmanager
async def open_targets(settings: Settings) -> AsyncIterator[Targets]:
    """Give the settings' targets to be looked at, without a database: nothing is left behind.

    Raises:
        BadInput: an optional package is missing.
    """
    targets = make_targets(
        settings.targets, clock=CLOCK, chance=CHANCE, quota=NoQuota(), shelf_of=lambda _: EmptyShelf()
    )
    try:
        yield targets
    finally:
        await targets.close()


def make_stored_targets(settings: Settings, *, store: Store, keyring: Keyring) -> Targets:
    """Return the settings' targets, with what they keep in the store.

    Raises:
        BadInput: an optional package is missing.
    """
    return make_targets(
        settings.targets,
        clock=CLOCK,
        chance=CHANCE,
        quota=StoredQuota(store=store, clock=CLOCK),
        shelf_of=lambda name: StoredShelf(store=store, keyring=keyring, target=name),
    )


def join_deployment(
    engine: Engine, settings: Settings, *, store: Store, keyring: Keyring, targets: Targets, watch: Watch
) -> Inventory:
    """Define the deployment workflow, and return the look at what listeners hold and serve."""
    prover = Prover(prober=TLSProber(), clock=CLOCK, chance=CHANCE)
    turns = ScopeTurns(store=store, clock=CLOCK, chance=CHANCE, is_alone=settings.is_sqlite)
    deployment = Deployment(
        store=store,
        targets=targets.by_name,
        roller=Roller(
            store=store,
            keyring=keyring,
            prover=prover,
            clock=CLOCK,
            chance=CHANCE,
            tries=settings.deployment.tries,
            turns=turns,
        ),
        clock=CLOCK,
        chance=CHANCE,
        parallel=settings.deployment.parallel,
        new_id=new_id,
        wake=watch.notify,
    )
    engine.register(JobKind.DEPLOY.value, deployment.run, on_broken=deployment.record_broken)
    return Inventory(
        store=store,
        targets=targets.by_name,
        prover=prover,
        turns=turns,
        clock=CLOCK,
        chance=CHANCE,
        every=timedelta(minutes=settings.deployment.look_minutes),
        repairs=settings.deployment.drift == "repair",
        new_id=new_id,
    )

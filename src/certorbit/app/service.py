"""One process: every part built, joined, and released at the end."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from certorbit.api.parts import Parts
from certorbit.app.auditing import make_audit_retention, start_sealing
from certorbit.app.database import prepare_store
from certorbit.app.deploying import join_deployment, make_stored_targets
from certorbit.app.ground import CHANCE, CLOCK, new_id
from certorbit.app.issuing import make_authority, make_issuers, register_issuance
from certorbit.app.keyring import make_keyring, make_rewrapping
from certorbit.app.revoking import make_revocation_looks
from certorbit.app.signing_in import make_identity_provider
from certorbit.errors import Refused
from certorbit.internal_ca.authority import InternalAuthority
from certorbit.model.audit import Action
from certorbit.model.entry import Entry
from certorbit.model.operation import Operation, OperationKind
from certorbit.model.renewal import rules_from
from certorbit.observe.metrics import Metrics
from certorbit.pki.selfsigned import make_placeholder
from certorbit.ports.identity import IdentityProvider
from certorbit.ports.issuer import Issuer
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Store, UnitOfWork
from certorbit.publishing.publisher import Publisher
from certorbit.services import api_keys, configurations, publish, renewals
from certorbit.settings import Settings
from certorbit.solvers.assembly import make_solvers
from certorbit.storage import SQLStore, Turns
from certorbit.targets.assembly import Targets
from certorbit.workflows import housekeeping, renewal
from certorbit.workflows.engine import Engine, leave_alone
from certorbit.workflows.inventory import Inventory
from certorbit.workflows.periodic import Periodic
from certorbit.workflows.watch import Watch

PREFETCH = 3  # workflows taken from the queue for each order that may be worked on at once (workflows/issuance.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Every part of one process, joined.

    first_key: the first administrator's key if this start made a random one; it must be shown now or never.
    """

    settings: Settings
    store: SQLStore
    keyring: Keyring
    engine: Engine
    watch: Watch
    issuers: Sequence[Issuer]
    authority: InternalAuthority | None
    targets: Targets
    inventory: Inventory
    periodic: Sequence[Periodic]
    metrics: Metrics
    identity: IdentityProvider | None
    first_key: str | None

    def parts(self) -> Parts:
        """Return what the API works with."""
        return Parts(
            settings=self.settings,
            clock=CLOCK,
            store=self.store,
            keyring=self.keyring,
            new_id=new_id,
            watch=self.watch,
            steps=self.engine,
            issuers=self.issuers,
            authority=self.authority,
            check_ready=self.check_ready,
            metrics=self.metrics,
            targets=self.targets.by_name,
            inventory=self.inventory,
            identity=self.identity,
            publisher=Publisher(
                settings=self.settings.publish,
                store=self.store,
                keyring=self.keyring,
                transactions=publish,
                clock=CLOCK,
                new_id=new_id,
            ),
        )

    async def start_work(self) -> None:
        """Become a worker: take workflows, serve proxies, and begin with what comes round again."""
        await self.targets.start()
        await self.engine.launch()
        for work in self.periodic:
            work.start()

    async def stop_periodic(self) -> None:
        for work in self.periodic:
            await work.stop()

    async def check_ready(self) -> None:
        """Return if the database answers. Raises Unreachable."""
        await self.store.read(lambda tx: tx.configurations.find(configurations.PROD))


@asynccontextmanager
async def open_service(settings: Settings, *, public_url: str) -> AsyncIterator[Service]:
    """Build every part, prepare the database, and release everything at the end.

    public_url: how outsiders reach the API, "" when unknown; goes into the built-in CA's CRL addresses.

    Raises:
        CertorbitError: the message says what keeps the service from starting.
    """
    _make_data_dir(settings)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(prepare_store(settings))
        start_sealing(store, stack=stack)
        turns = Turns()
        if settings.is_sqlite:
            turns.watch(store.engine)
        keeper = await make_keyring(settings, store=store, stack=stack)
        keyring = keeper.keyring
        engine = _make_workflow_engine(settings, turns)
        stack.callback(engine.close)
        engine.prepare()
        store.connect_enqueue(engine.enqueue)
        watch = Watch(store=store, clock=CLOCK)
        stack.push_async_callback(watch.close)
        authority = await make_authority(settings, store=store, keyring=keyring, public_url=public_url)
        solvers = make_solvers(settings.solvers, store=store, clock=CLOCK, chance=CHANCE)
        stack.push_async_callback(solvers.close)
        issuers = make_issuers(settings, store=store, keyring=keyring, authority=authority, solvers=solvers.in_order)
        for issuer in issuers:
            stack.push_async_callback(issuer.close)
        register_issuance(engine, settings, store=store, keyring=keyring, issuers=issuers, watch=watch)
        targets = make_stored_targets(settings, store=store, keyring=keyring)
        stack.push_async_callback(targets.close)
        inventory = join_deployment(engine, settings, store=store, keyring=keyring, targets=targets, watch=watch)
        metrics = Metrics()
        identity = make_identity_provider(settings)
        if identity is not None:
            stack.push_async_callback(identity.close)
        yield Service(
            settings=settings,
            store=store,
            keyring=keyring,
            engine=engine,
            watch=watch,
            issuers=issuers,
            authority=authority,
            targets=targets,
            inventory=inventory,
            periodic=(
                *_make_periodic(settings, store=store, engine=engine, issuers=issuers, inventory=inventory),
                make_rewrapping(keeper, store=store),
                make_audit_retention(settings, store=store),
                *make_revocation_looks(settings, store=store, issuers=issuers, authority=authority, metrics=metrics),
            ),
            metrics=metrics,
            identity=identity,
            first_key=await _ensure_first_rows(settings, store=store, keyring=keyring),
        )


def _make_workflow_engine(settings: Settings, turns: Turns) -> Engine:
    return Engine(
        database_url=settings.url,
        clock=CLOCK,
        chance=CHANCE,
        max_in_flight=settings.acme_max_in_flight * PREFETCH,
        deployments_in_flight=settings.deployment.in_flight,
        heartbeat_seconds=settings.worker.heartbeat_seconds,
        ttl_seconds=settings.worker.ttl_seconds,
        adopt=turns.watch if settings.is_sqlite else leave_alone,
    )


def _make_data_dir(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"data_dir: {settings.data_dir} can't be made: {error.strerror}. Name a folder that may be written.",
            subject="data_dir",
        ) from error


def start_renewal(tx: UnitOfWork, entry: Entry, kind: OperationKind, issuer: str, now: datetime) -> Operation:
    """Join the sweep with the use-case (`workflows.renewal.Start`)."""
    operation = renewals.start_operation(tx, entry, kind, issuer=issuer, now=now, new_id=new_id)
    renewals.record_started(tx, Action.RENEWAL_STARTED, operation, now=now)
    return operation


def _make_periodic(
    settings: Settings, *, store: Store, engine: Engine, issuers: Sequence[Issuer], inventory: Inventory
) -> tuple[Periodic, ...]:
    sweep = renewal.Renewal(
        store=store,
        issuers=issuers,
        by_config=settings.issuers_by_configuration(),
        clock=CLOCK,
        chance=CHANCE,
        rules=rules_from(settings.renewal),
        start=start_renewal,
        go_on=lambda tx, operation, now: renewals.start_next_attempt(tx, operation, issuer="", now=now),
    )
    tidy = partial(housekeeping.tidy, store=store, engine=engine, clock=CLOCK)
    return (
        Periodic("renewal", sweep.sweep, every=renewal.INTERVAL, clock=CLOCK, chance=CHANCE),
        Periodic("inventory", inventory.sweep, every=inventory.every, clock=CLOCK, chance=CHANCE),
        Periodic("housekeeping", tidy, every=housekeeping.INTERVAL, clock=CLOCK, chance=CHANCE),
    )


async def _ensure_first_rows(settings: Settings, *, store: Store, keyring: Keyring) -> str | None:
    """Create what every database has: `prod` with its placeholder, and one administrator's key."""
    now = CLOCK.now()
    await store.write(
        lambda tx: configurations.ensure_built_in(
            tx, lambda: make_placeholder(now=now), now=now, new_id=new_id, keyring=keyring
        )
    )
    return await store.write(
        lambda tx: api_keys.ensure_first_key(
            tx,
            bootstrap_secret=settings.bootstrap_api_key.get_secret_value(),
            now=now,
            new_id=new_id,
            random_secret=api_keys.new_secret(),
        )
    )

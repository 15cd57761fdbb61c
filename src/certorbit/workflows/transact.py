"""DBOS Transact 3.4: everything of it that we touch, the private parts included.

DBOS is one instance per process. Private parts used here, to be looked at again at each upgrade (a test pins the
version): `SystemDatabase.create`, the context's `owner_xid`, `_sys_db`,
`background_thread_stop_events`, `_workflow_tasks`. Steps are recorded by `checkpoints.py` and not by
`DBOS.run_step_async`: the same rows and the same ownership check, but a fifth of the thread hops, many in one
transaction (measured: 3 against 9 ms of CPU per four-step workflow), and the event loop keeps its thread pool.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions, error
from dbos._context import get_local_dbos_context
from dbos._sys_db import SystemDatabase

from certorbit.errors import Broken
from certorbit.ports.store import Job, JobKind

APPLICATION: Final = "certorbit"
APPLICATION_VERSION: Final = "wf-1"  # a constant: DBOS's default, a hash of the code, strands running work at updates
# Workflows' and queues' names in the database; never renamed while rows of them may live.
ISSUE: Final = JobKind.ISSUE.value
ISSUANCE_QUEUE: Final = "issuance"
DEPLOYMENT_QUEUE: Final = "deployment"
# One per kind: slow targets take no slots of issuances, nor a storm of renewals those of deployments.
QUEUES: Final[Mapping[JobKind, str]] = {JobKind.ISSUE: ISSUANCE_QUEUE, JobKind.DEPLOY: DEPLOYMENT_QUEUE}
INTERNAL_QUEUE: Final = "_dbos_internal_queue"
SCHEMA: Final = "dbos"
SERIALIZATION: Final = "portable_json"
IDLE_POLL_SECONDS: Final = 0.2  # of DBOS's notification thread, which has nothing to do; bounds the time to stop


@dataclass(frozen=True, slots=True)
class Call:
    """One execution of a workflow. owner: the token that its checkpoints are accepted with."""

    workflow: str
    owner: str
    operation: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A finished step. place: from 1. outcome: JSON text. started_ms, finished_ms: since the epoch."""

    call: Call
    place: int
    name: str
    outcome: str
    started_ms: int
    finished_ms: int


Body = Callable[[Call], Awaitable[None]]


class Verdict(Enum):
    """What became of a checkpoint."""

    RECORDED = "recorded"
    SUPERSEDED = "superseded"  # another execution owns the workflow now
    TAKEN = "taken"  # this very execution recorded another step in its place: a bug


def migrate(engine: sa.Engine) -> None:
    """Create or migrate DBOS's tables. It locks against other processes that do the same.

    Raises:
        Broken: the schema is one that open DBOS can't use.
    """
    quiet_logs()
    try:
        _system_database(engine).run_migrations()
    except error.DBOSException as refusal:
        raise Broken(f"DBOS refused to migrate its tables: {refusal}") from refusal


def make_client(engine: sa.Engine) -> DBOSClient:
    """Return a client that enqueues; it doesn't connect."""
    quiet_logs()
    return DBOSClient(
        system_database_engine=engine,
        dbos_system_schema=SCHEMA,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
        lazy=True,
        retry_connection_errors=False,
    )


def enqueue(client: DBOSClient, connection: sa.Connection, job: Job) -> None:
    """Enqueue the job in the connection's transaction; again is harmless.

    Raises:
        Broken: the id belongs to a workflow of another kind, or the priority is out of range.
    """
    options: EnqueueOptions = {
        "workflow_name": job.kind.value,
        "queue_name": QUEUES[job.kind],
        "workflow_id": job.workflow_id,
        "app_version": APPLICATION_VERSION,
        "priority": job.priority,
    }
    if job.delay_seconds > 0:
        options["delay_seconds"] = job.delay_seconds
    try:
        client.enqueue_in_transaction(connection, options, job.operation, job.attempt)
    except error.DBOSException as refusal:
        raise Broken(
            f"The workflow {job.workflow_id} can't be enqueued: {refusal}", subject=job.workflow_id
        ) from refusal


def declare_queue(client: DBOSClient, queue: str, *, max_in_flight: int, poll_seconds: float) -> None:
    """Write the queue's limits down; they are shared by all workers, and the last one to start wins."""
    client.register_queue(
        queue,
        worker_concurrency=max_in_flight,
        polling_interval_sec=poll_seconds,
        on_conflict="always_update",
    )


def quiet_logs() -> None:
    """Send DBOS's log through ours instead of its own console handler."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # DBOS adds its console handler only where there is none
    logger.propagate = True
    logger.setLevel(logging.WARNING)


class Transact:
    """The one DBOS instance of this process, from before its launch until it is destroyed.

    Raises:
        Broken: the process has one already.
    """

    _exists = False

    def __init__(self, *, engine: sa.Engine, executor: str, threads: int) -> None:
        if Transact._exists:
            raise Broken("This process runs a workflow engine already; stop it first.")
        quiet_logs()
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_engine": engine,
            "dbos_system_schema": SCHEMA,
            "serializer": DBOSPortableJSONSerializer(),
            "application_version": APPLICATION_VERSION,
            "executor_id": executor,
            "max_executor_threads": threads,
            "run_migrations": False,
            "use_listen_notify": False,
            "notification_listener_polling_interval_sec": IDLE_POLL_SECONDS,
            "log_level": "WARNING",
        }
        Transact._exists = True
        self._dbos = DBOS(config=config)

    def define(self, name: str, body: Body) -> None:
        """Register a workflow function; before `launch`."""

        async def workflow(operation: str, attempt: int) -> None:
            context = get_local_dbos_context()
            if context is None or context.owner_xid is None:
                raise Broken("A workflow function was called outside of a workflow.")
            await body(Call(context.workflow_id, context.owner_xid, operation, attempt))

        # No limit on recoveries: DBOS would otherwise drop a workflow for good after its hundredth restart.
        DBOS.workflow(name=name, max_recovery_attempts=None)(workflow)

    def listen(self, queues: Collection[str]) -> None:
        """Take work from these queues alone; before `launch`.

        DBOS polls every queue in the database otherwise, and claims workflows that are not defined here: those would
        be held, and not run, until this process ends.
        """
        self._dbos.listen_queues(list(queues))

    def launch(self) -> None:
        """Start taking work. Call it in the event loop that the workflows shall run in: DBOS adopts it.

        Raises:
            Broken: the tables are missing or older than this version of DBOS.
        """
        try:
            DBOS.launch()
        except error.DBOSException as refusal:
            raise Broken(f"DBOS refused to start: {refusal}") from refusal

    @property
    def tasks(self) -> set["asyncio.Task[object]"]:
        """The executions that run now."""
        return set(self._dbos._workflow_tasks)  # noqa: SLF001 - there is no public way to stop them

    def refuse_work(self) -> None:
        """Take no more work; what runs goes on."""
        for event in self._dbos.background_thread_stop_events:
            event.set()

    def destroy(self) -> None:
        """End DBOS's threads. Blocks for a second or so; never call it in the event loop, which they may wait for."""
        try:
            DBOS.destroy(destroy_registry=True)
        finally:
            Transact._exists = False


def _system_database(engine: sa.Engine) -> SystemDatabase:
    return SystemDatabase.create(
        system_database_url="sqlite://" if engine.dialect.name == "sqlite" else "postgresql://",
        engine_kwargs={},
        engine=engine,
        schema=SCHEMA,
        serializer=DBOSPortableJSONSerializer(),
        executor_id=None,
        use_listen_notify=False,
        app_name=APPLICATION,
        retry_connection_errors=False,
    )

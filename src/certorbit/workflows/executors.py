"""Who runs what: our statements on DBOS's tables (recorder.py has the rest), heartbeats, SQLite's one-worker lock.

Open DBOS never takes over what a dead process held (engine.md). `release` copies what DBOS 3.4's
`SystemDatabase.reenqueue_for_recovery` does; check it again when DBOS is upgraded. Functions here block and run in
the transaction of the connection that they are given.
"""

import fcntl
import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from certorbit.errors import Refused, Unreachable
from certorbit.model.operation import OperationID, Step, workflow_id
from certorbit.workflows.transact import APPLICATION, INTERNAL_QUEUE, SCHEMA

FINISHED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
REAPER_LOCK: Final = 0x63657274_6F726232  # pg advisory lock: "certorb2"
DELETE_AT_ONCE: Final = 500  # workflows per transaction of the clean-up: milliseconds of write lock
READ_AT_ONCE: Final = 1000  # attempts per query: SQLite takes at most 32,766 parameters

WORKERS: Final = sa.Table(
    "certorbit_executors",
    sa.MetaData(schema=SCHEMA),
    sa.Column("executor_id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A checkpoint as DBOS stores it. outcome: JSON text."""

    name: str
    outcome: str


class Tables:
    """The columns of DBOS 3.4 that we touch."""

    def __init__(self, schema: str | None) -> None:
        def columns(names: str) -> list[sa.ColumnClause[object]]:
            return [sa.column(name) for name in names.split()]

        self.status = sa.table(
            "workflow_status",
            *columns("workflow_uuid status executor_id owner_xid started_at_epoch_ms updated_at completed_at"),
            *columns("queue_name application_name"),
            schema=schema,
        )
        self.steps = sa.table(
            "operation_outputs",
            *columns("workflow_uuid function_id function_name output started_at_epoch_ms completed_at_epoch_ms"),
            *columns("serialization application_name retention_timestamp"),
            schema=schema,
        )
        self.inputs = sa.table("workflow_input", sa.column("workflow_uuid"), schema=schema)
        self.outputs = sa.table("workflow_output", sa.column("workflow_uuid"), schema=schema)


def is_away(error: BaseException) -> bool:
    """Return whether the error means 'not now' (unreachable, locked, full, lost a race) rather than a bug."""
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.TimeoutError)


def release_all_but(connection: sa.Connection, tables: Tables, *, alive: Collection[str], now: datetime) -> int:
    """Return to their queue all workflows that are held by executors other than these; say how many.

    An executor is registered before it takes work, so the holders are read first and `alive` must have been read
    after them, or be all there can be.
    """
    return release(connection, tables, dead=find_holders(connection, tables) - set(alive), now=now)


def find_holders(connection: sa.Connection, tables: Tables) -> set[str]:
    """Return the executors that hold work."""
    status = tables.status
    rows = connection.execute(
        sa.select(status.c.executor_id)
        .distinct()
        .where(status.c.status == "PENDING", status.c.application_name == APPLICATION)
    )
    return {str(row[0]) for row in rows if row[0] is not None}


def release(connection: sa.Connection, tables: Tables, *, dead: Iterable[str], now: datetime) -> int:
    """Return to their queue the workflows that these executors hold; say how many.

    With `owner_xid` gone, an executor that wakes up after all can't write a checkpoint for them any more.
    """
    ids = sorted(dead)
    if not ids:
        return 0
    status = tables.status
    done = connection.execute(
        sa.update(status)
        .where(status.c.status == "PENDING", status.c.executor_id.in_(ids))
        .values(
            status="ENQUEUED",
            owner_xid=None,
            started_at_epoch_ms=None,
            updated_at=int(now.timestamp() * 1000),
            queue_name=sa.func.coalesce(status.c.queue_name, INTERNAL_QUEUE),
        )
    )
    return done.rowcount


def find_owner(connection: sa.Connection, tables: Tables, workflow: str) -> str | None:
    """Return the token of the execution that may write for the workflow, if any."""
    status = tables.status
    owner = connection.execute(sa.select(status.c.owner_xid).where(status.c.workflow_uuid == workflow)).scalar()
    return None if owner is None else str(owner)


def register_worker(connection: sa.Connection, *, executor: str, host: str) -> datetime:
    """Write the worker's first heartbeat and return its time, by the database's clock. PostgreSQL only."""
    now = sa.func.clock_timestamp()
    seen_at: datetime = connection.execute(
        sa.insert(WORKERS)
        .values(executor_id=executor, host=host, started_at=now, seen_at=now)
        .returning(WORKERS.c.seen_at)
    ).scalar_one()
    return seen_at


def beat(connection: sa.Connection, *, executor: str) -> datetime | None:
    """Write a heartbeat and return its time, by the database's clock; None when the worker was declared dead."""
    return connection.execute(
        sa.update(WORKERS)
        .where(WORKERS.c.executor_id == executor)
        .values(seen_at=sa.func.clock_timestamp())
        .returning(WORKERS.c.seen_at)
    ).scalar()


def unregister_worker(connection: sa.Connection, *, executor: str) -> None:
    connection.execute(sa.delete(WORKERS).where(WORKERS.c.executor_id == executor))


def reap(connection: sa.Connection, tables: Tables, *, ttl: timedelta, now: datetime) -> int:
    """Release what dead workers hold: those without a heartbeat for a `ttl`, and those nobody knows; say how many.

    One process at a time does it; the others skip. A worker's row disappears in the transaction that takes its
    work away, so a worker whose row is there still owns what it holds. PostgreSQL only.
    """
    if not connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(REAPER_LOCK))).scalar():
        return 0
    connection.execute(sa.delete(WORKERS).where(WORKERS.c.seen_at < sa.func.clock_timestamp() - ttl))
    holders = find_holders(connection, tables)
    alive = {str(row[0]) for row in connection.execute(sa.select(WORKERS.c.executor_id))}  # after the holders
    return release(connection, tables, dead=holders - alive, now=now)


def load_checkpoints(
    connection: sa.Connection, tables: Tables, workflows: Sequence[str]
) -> dict[str, dict[int, Recorded]]:
    """Return what these workflows have recorded, by workflow and by the step's place (from 1)."""
    steps = tables.steps
    found: dict[str, dict[int, Recorded]] = {workflow: {} for workflow in workflows}
    rows = connection.execute(
        sa.select(steps.c.workflow_uuid, steps.c.function_id, steps.c.function_name, steps.c.output).where(
            steps.c.workflow_uuid.in_(workflows)
        )
    )
    for workflow, place, name, output in rows:
        found[str(workflow)][int(place)] = Recorded(name=str(name), outcome=str(output))
    return found


def list_steps(connection: sa.Connection, tables: Tables, operation: OperationID, *, attempts: int) -> list[Step]:
    """Return the finished steps of attempts 1 to `attempts`, in order; an engine's own waits are left out."""
    steps = tables.steps
    found: list[tuple[int, int, Step]] = []
    for first in range(1, attempts + 1, READ_AT_ONCE):
        number = {
            workflow_id(operation, attempt): attempt
            for attempt in range(first, min(first + READ_AT_ONCE, attempts + 1))
        }
        rows = connection.execute(
            sa.select(
                steps.c.workflow_uuid,
                steps.c.function_id,
                steps.c.function_name,
                steps.c.output,
                steps.c.started_at_epoch_ms,
                steps.c.completed_at_epoch_ms,
            ).where(steps.c.workflow_uuid.in_(list(number)), steps.c.function_name.not_like("DBOS.%"))
        )
        for workflow, place, name, output, started, finished in rows:
            attempt = number[str(workflow)]
            value = json.loads(str(output)) if output is not None else {}
            outcome = value if isinstance(value, dict) else {"value": value}
            step = Step(attempt, str(name), _instant(started), _instant(finished), outcome)
            found.append((attempt, int(place), step))
    return [step for _, _, step in sorted(found, key=lambda entry: entry[:2])]


def delete_finished(connection: sa.Connection, tables: Tables, *, before: datetime) -> int:
    """Delete some workflows that finished before the instant, with all that belongs to them; say how many.

    Returns fewer than DELETE_AT_ONCE when no more are left.
    """
    status = tables.status
    ids = [
        str(row[0])
        for row in connection.execute(
            sa.select(status.c.workflow_uuid)
            .where(
                status.c.application_name == APPLICATION,
                status.c.status.in_(FINISHED),
                status.c.completed_at < int(before.timestamp() * 1000),
            )
            .limit(DELETE_AT_ONCE)
        )
    ]
    if ids:
        # The payload tables have no foreign key on the status (as DBOS's own `_delete_workflows` notes).
        for table in (tables.steps, tables.inputs, tables.outputs, tables.status):
            connection.execute(sa.delete(table).where(table.c.workflow_uuid.in_(ids)))
    return len(ids)


class WorkerLock:
    """The lock that makes a SQLite file have one worker process. The kernel drops it when the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


def take_worker_lock(database: str) -> WorkerLock:
    """Take the lock beside the SQLite file.

    Raises:
        Refused: another process (or engine) has it.
        Unreachable: the lock file can't be made.
    """
    path = Path(f"{database}.worker.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unreachable(
            f"The lock file {path} can't be opened ({error.strerror}); make its directory writable.",
            subject=str(path),
            phase="database",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Refused(
            f"Another worker (process {holder}) already runs on {database}. A SQLite database has one worker: stop"
            " the other one, or use PostgreSQL for several.",
            subject="database_url",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return WorkerLock(descriptor)


def _instant(milliseconds: object) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(int(str(milliseconds)) / 1000, tz=UTC)

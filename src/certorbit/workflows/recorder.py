"""Writes checkpoints: the same rows, and the same question who owns the workflow, as DBOS 3.4's own.

Its `SystemDatabase._record_operation_result_txn` and `_check_owner_txn` are the model; look at them again when DBOS
is upgraded. They build their statements anew for every step, which was an eighth of what a certificate cost; here the
statements are made once, and the owners of a whole batch are asked for in one.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from certorbit.workflows.executors import Tables
from certorbit.workflows.transact import APPLICATION, SCHEMA, SERIALIZATION, Call, Checkpoint, Verdict

_WORKFLOWS: sa.BindParameter[str] = sa.bindparam("workflows", expanding=True)


class Recorder:
    """Its methods block."""

    def __init__(self, engine: sa.Engine) -> None:
        is_sqlite = engine.dialect.name == "sqlite"
        tables = Tables(None if is_sqlite else SCHEMA)
        self._engine = engine
        self._owners = _own_sqlite(tables) if is_sqlite else _own_postgresql(tables)
        insert = sqlite.insert(tables.steps) if is_sqlite else postgresql.insert(tables.steps)
        completed_at = tables.steps.c.completed_at_epoch_ms
        self._insert: sa.Executable = (
            insert.values({column.name: sa.bindparam(f"new_{column.name}") for column in tables.steps.c})
            .on_conflict_do_update(
                index_elements=["workflow_uuid", "function_id"], set_={"completed_at_epoch_ms": completed_at}
            )
            .returning(completed_at)
        )

    def record(self, checkpoints: Sequence[Checkpoint]) -> list[Verdict]:
        """Write the checkpoints in one transaction and return what became of each.

        Neither refusal writes anything, so they don't spoil the transaction for the others.
        """
        workflows = sorted({checkpoint.call.workflow for checkpoint in checkpoints})
        with self._engine.begin() as connection:
            rows = connection.execute(self._owners, {"workflows": workflows})
            owners = {row.workflow_uuid: row.owner_xid for row in rows}
            return [self._record_one(connection, checkpoint, owners) for checkpoint in checkpoints]

    def _record_one(self, connection: sa.Connection, checkpoint: Checkpoint, owners: dict[str, str | None]) -> Verdict:
        call: Call = checkpoint.call
        if owners.get(call.workflow) != call.owner:
            return Verdict.SUPERSEDED
        completed_at = connection.execute(
            self._insert,
            {
                "new_workflow_uuid": call.workflow,
                "new_function_id": checkpoint.place,
                "new_function_name": checkpoint.name,
                "new_output": checkpoint.outcome,
                "new_serialization": SERIALIZATION,
                "new_started_at_epoch_ms": checkpoint.started_ms,
                "new_completed_at_epoch_ms": checkpoint.finished_ms,
                "new_application_name": APPLICATION,
                "new_retention_timestamp": checkpoint.finished_ms,
            },
        ).scalar_one()
        # A row that is there already with the same time is this very checkpoint, whose commit's answer was lost.
        return Verdict.RECORDED if completed_at == checkpoint.finished_ms else Verdict.TAKEN


def _own_sqlite(tables: Tables) -> sa.Executable:
    """Return the owners, and begin to write with it: a SELECT would leave the transaction open to others."""
    status = tables.status
    return (
        sa.update(status)
        .where(status.c.workflow_uuid.in_(_WORKFLOWS))
        .values(owner_xid=status.c.owner_xid)
        .returning(status.c.workflow_uuid, status.c.owner_xid)
    )


def _own_postgresql(tables: Tables) -> sa.Executable:
    """Return the owners, and hold their rows until the commit; in one order, so that two batches can't deadlock."""
    status = tables.status
    return (
        sa.select(status.c.workflow_uuid, status.c.owner_xid)
        .where(status.c.workflow_uuid.in_(_WORKFLOWS))
        .order_by(status.c.workflow_uuid)
        .with_for_update(key_share=True)
    )

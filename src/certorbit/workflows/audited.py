"""What workflows write into the audit trail: what the service itself does."""

from collections.abc import Iterable
from datetime import datetime

from certorbit.model.audit import Action, AuditEvent, ObjectChange
from certorbit.model.change_states import change_of_entry
from certorbit.model.deployment import Rollout
from certorbit.model.entry import Entry
from certorbit.model.operation import Operation, OperationState
from certorbit.ports.store import UnitOfWork


def record_issued_version(tx: UnitOfWork, operation: Operation, before: Entry, after: Entry, *, now: datetime) -> None:
    """Write that the entry has a new version; a configuration's own history is of what clients change."""
    change = change_of_entry(before, after)
    tx.audit.add(
        AuditEvent(
            action=Action.CERTIFICATE_ISSUED,
            config=operation.config,
            objects=(operation.entry_id,),
            operation=operation.id,
            changes=(ObjectChange(change.kind.value, change.id, change.before, change.after),),
            details={"kind": operation.kind.value, "issuer": after.current.issuer_name if after.current else ""},
        ),
        now=now,
    )


def record_deployment_end(tx: UnitOfWork, ended: Operation, rollouts: Iterable[Rollout], *, now: datetime) -> None:
    """Write what became of a deployment, listener by listener."""
    has_failed = ended.state is OperationState.FAILED
    tx.audit.add(
        AuditEvent(
            action=Action.DEPLOYMENT_FAILED if has_failed else Action.DEPLOYMENT_DONE,
            config=ended.config,
            objects=(ended.entry_id,),
            operation=ended.id,
            details={
                "listeners": [
                    {
                        "listener": str(row.listener),
                        "from": row.from_version,
                        "to": row.to_version,
                        "stage": row.stage.value,
                    }
                    for row in sorted(rollouts, key=lambda row: str(row.listener))
                ],
                "problem": ended.problem.message if ended.problem else "",
            },
        ),
        now=now,
    )

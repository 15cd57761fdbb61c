"""Roll-outs: each listener's part of each deployment."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certorbit.model.deployment import AttachmentID, Rollout, Snapshot, Stage, proof_from_json, proof_to_json
from certorbit.model.operation import OperationID, problem_from_json, problem_to_json
from certorbit.storage.listener_keys import columns_of, key_from, values_of
from certorbit.storage.tables_deployment import rollouts
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable
from certorbit.storage.upserts import Upsert

_PUT = Upsert(rollouts)
_FIND = sa.select(rollouts).where(
    rollouts.c.operation == sa.bindparam("wanted_operation"),
    rollouts.c.attachment == sa.bindparam("wanted_attachment"),
)
_LIST = (
    sa.select(rollouts)
    .where(rollouts.c.operation.in_(sa.bindparam("operations", expanding=True)))
    .order_by(rollouts.c.operation, *columns_of(rollouts), rollouts.c.attachment)
)
_LIST_SOME = _LIST.where(rollouts.c.attachment.in_(sa.bindparam("attachments", expanding=True)))
_DELETE_BEFORE = sa.delete(rollouts).where(
    rollouts.c.updated_at < sa.bindparam("before", type_=rollouts.c.updated_at.type)
)


class SQLRollouts:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def put(self, rollout: Rollout) -> None:
        _PUT.run(self._transaction, _values(rollout))

    def find(self, operation: OperationID, attachment: AttachmentID) -> Rollout | None:
        if not (is_storable(operation) and is_storable(attachment)):
            return None
        wanted = {"wanted_operation": operation, "wanted_attachment": attachment}
        row = self._transaction.execute(_FIND, wanted).first()
        return _rollout(row) if row else None

    def list(self, operations: Sequence[OperationID]) -> Sequence[Rollout]:
        wanted = [operation for operation in operations if is_storable(operation)]
        if not wanted:
            return []
        return [_rollout(row) for row in self._transaction.execute(_LIST, {"operations": wanted})]

    def list_some(self, operation: OperationID, attachments: Collection[AttachmentID]) -> Sequence[Rollout]:
        ids = [attachment for attachment in attachments if is_storable(attachment)]
        if not ids or not is_storable(operation):
            return []
        wanted = {"operations": [operation], "attachments": ids}
        return [_rollout(row) for row in self._transaction.execute(_LIST_SOME, wanted)]

    def delete_before(self, instant: datetime) -> int:
        return self._transaction.execute(_DELETE_BEFORE, {"before": instant}).rowcount


def _values(rollout: Rollout) -> Mapping[str, Any]:
    before = rollout.before
    return {
        "operation": rollout.operation,
        "attachment": rollout.attachment,
        **values_of(rollout.listener),
        "is_default": rollout.is_default,
        "from_version": rollout.from_version,
        "to_version": rollout.to_version,
        "stage": rollout.stage.value,
        "updated_at": rollout.updated_at,
        "snapshot": {"default": before.default, "certificates": before.certificates} if before else None,
        "proof": proof_to_json(rollout.proof) if rollout.proof else None,
        "problem": problem_to_json(rollout.problem) if rollout.problem else None,
    }


def _rollout(row: sa.Row[Any]) -> Rollout:
    snapshot = row.snapshot
    return Rollout(
        operation=row.operation,
        attachment=row.attachment,
        listener=key_from(row),
        is_default=row.is_default,
        from_version=row.from_version,
        to_version=row.to_version,
        stage=Stage(row.stage),
        updated_at=row.updated_at,
        before=Snapshot(default=snapshot["default"], certificates=tuple(snapshot["certificates"]))
        if snapshot
        else None,
        proof=proof_from_json(row.proof) if row.proof is not None else None,
        problem=problem_from_json(row.problem) if row.problem is not None else None,
    )

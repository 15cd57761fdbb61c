"""A stand-in for the workflow engine: what it is told to do with an issuance, it does when somebody waits for it.

It writes through the same store as the real workflows, so the API can't tell the difference.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from api.material import Pair, make_leaf
from certorbit.errors import RetryRule
from certorbit.model.entry import Source, Version, VersionID, key_context
from certorbit.model.identifiers import hash_identifiers
from certorbit.model.operation import Operation, OperationID, OperationState, Problem, Step
from certorbit.pki.read import read_facts
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import Job, Store, UnitOfWork

REFUSAL = Problem(
    message="The CA refused: DNS problem: NXDOMAIN looking up A for nowhere.example.test.",
    type="urn:ietf:params:acme:error:dns",
    detail="DNS problem: NXDOMAIN looking up A for nowhere.example.test",
    subproblems={"nowhere.example.test": "NXDOMAIN"},
    retry=RetryRule.NEVER,
)
FINISHED = datetime(2026, 11, 24, 12, 0, 7, tzinfo=UTC)


class FakeWorkflow:
    """OperationWatch, StepReader and the store's enqueue in one.

    outcome: what becomes of an issuance that is waited for: "issue", "refuse", "go on" (still running when the wait
    is over), "end late" (over just after the wait).
    jobs: everything that was enqueued, in order.
    """

    def __init__(self, *, ca: Pair, keyring: Keyring) -> None:
        self.outcome = "issue"
        self.jobs: list[Job] = []
        self.waits: list[tuple[OperationID, float]] = []
        self.store: Store | None = None
        self._ca = ca
        self._keyring = keyring
        self._lock = threading.Lock()

    def enqueue(self, connection: sa.Connection, job: Job) -> None:
        with self._lock:
            self.jobs.append(job)

    async def wait(self, operation: OperationID, *, seconds: float) -> Operation:
        assert self.store is not None
        self.waits.append((operation, seconds))
        if self.outcome == "issue":
            return await self.store.write(lambda tx: self.issue(tx, operation))
        if self.outcome == "refuse":
            return await self.store.write(lambda tx: refuse(tx, operation))
        before = await self.store.write(lambda tx: _run(tx, operation))
        if self.outcome == "end late":
            await self.store.write(lambda tx: self.issue(tx, operation))
        return before

    async def list_steps(self, operation: OperationID, *, attempts: int) -> Sequence[Step]:
        return [
            Step(attempt=attempts, name="place_order", started_at=None, finished_at=FINISHED, outcome={"done": True})
        ]

    def issue(self, tx: UnitOfWork, operation_id: OperationID) -> Operation:
        """Store a certificate for what was asked and mark the operation as succeeded."""
        operation = tx.operations.find(operation_id)
        assert operation is not None
        if operation.state.is_final:
            return operation
        leaf = make_leaf(self._ca, *operation.identifiers)
        version_id = VersionID(f"v-{operation_id}")
        tx.entries.add_version(
            Version(
                id=version_id,
                entry_uid=operation.entry_uid,
                created_at=FINISHED,
                source=Source.GENERATED,
                chain_pem=leaf.cert_pem + self._ca.cert_pem,
                sealed_key=self._keyring.seal(leaf.key_pem.encode(), context=key_context(version_id)),
                facts=read_facts(leaf.certificate),
                le_hash=hash_identifiers(operation.identifiers),
                issuer_name="fake",
            )
        )
        done = replace(
            operation,
            state=OperationState.SUCCEEDED,
            issuer_name="fake",
            updated_at=FINISHED,
            finished_at=FINISHED,
            next_attempt_at=None,
        )
        tx.operations.update(done)
        return done


def refuse(tx: UnitOfWork, operation_id: OperationID) -> Operation:
    """Fail the operation for good; nobody was promised anything, so the entry goes."""
    operation = tx.operations.find(operation_id)
    assert operation is not None
    failed = replace(operation, state=OperationState.FAILED, problem=REFUSAL, updated_at=FINISHED, finished_at=FINISHED)
    tx.operations.update(failed)
    tx.entries.delete(operation.entry_uid)
    return failed


def _run(tx: UnitOfWork, operation_id: OperationID) -> Operation:
    operation = tx.operations.find(operation_id)
    assert operation is not None
    running = replace(operation, state=OperationState.RUNNING, issuer_name="fake")
    tx.operations.update(running)
    return running

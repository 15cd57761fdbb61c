"""What is left behind after the kills, and the promises that it has to prove.

Three independent witnesses: the database, the log of our processes, and the CA's own log.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from certorbit.errors import Broken
from certorbit.model.entry import VersionID, key_context
from certorbit.model.operation import OperationID, workflow_id
from certorbit.ports.keyring import Keyring
from certorbit.storage import tables
from certorbit.workflows.executors import Tables
from e2e.pebble import Pebble

# What a step writes first into the log, or, for an order that was found again, instead.
STEP_OF = {
    "order.counted": "place_order",
    "order.found_again": "place_order",
    "order.proving": "prove",
    "order.finalising": "finalise",
    "order.collecting": "store",
}
ORDER_OF_STEPS = ["place_order", "prove", "finalise", "store"]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Rows as they lie in the tables, lines as they were logged, counts by the CA's log."""

    entries: Rows
    versions: Rows
    operations: Rows
    intents: Rows
    requests: Rows
    workflows: Rows
    steps: Rows
    log: Rows = field(repr=False)
    orders_at_ca: int
    certificates_at_ca: int

    @property
    def duplicates(self) -> int:
        """How many requests the ledger counts beyond the first of each order."""
        return len(self.requests) - len(self.intents)

    def begun_again(self) -> int:
        """Return how many steps were begun more than once."""
        begun = Counter(
            (line["operation"], line["attempt"], STEP_OF[line["event"]])
            for line in self.log
            if line.get("event") in STEP_OF
        )
        return sum(count - 1 for count in begun.values())

    def summary(self, **more: object) -> str:
        """Return the numbers as one line."""
        numbers = {
            **more,
            "certificates": len(self.versions),
            "newOrders at the CA": self.orders_at_ca,
            "requests in the ledger": len(self.requests),
            "intents": len(self.intents),
            "duplicates": self.duplicates,
            "orders found again": sum(line.get("event") == "order.found_again" for line in self.log),
            "steps begun again": self.begun_again(),
        }
        return ", ".join(f"{name} {number}" for name, number in numbers.items())


def collect_evidence(database: sa.Engine, *, log: Rows, pebble: Pebble) -> Evidence:
    """Read everything."""
    dbos = Tables(None if database.dialect.name == "sqlite" else "dbos")
    with database.connect() as connection:

        def read(table: Any) -> Rows:
            return [dict(row) for row in connection.execute(sa.select(table)).mappings()]

        return Evidence(
            entries=read(tables.entries),
            versions=read(tables.versions),
            operations=read(tables.operations),
            intents=read(tables.order_intents),
            requests=read(tables.order_requests),
            workflows=read(dbos.status),
            steps=read(dbos.steps),
            log=log,
            orders_at_ca=pebble.count_new_orders(),
            certificates_at_ca=pebble.log_text().count("Issued certificate serial"),
        )


def check_everything(
    evidence: Evidence, *, acknowledged: Mapping[str, str], keyring: Keyring, may_fail: bool = False
) -> None:
    """Raise AssertionError unless every promise was kept.

    acknowledged: ids that were answered 201, with their names. may_fail: whether attempts may have failed before the
    one that succeeded.
    """
    check_nothing_is_lost(evidence, acknowledged=acknowledged)
    check_no_finished_step_ran_twice(evidence)
    check_ledger(evidence)
    check_nothing_is_under_way(evidence)
    if not may_fail:
        check_no_attempt_failed(evidence)
    check_keys(evidence, keyring=keyring)


def check_nothing_is_lost(evidence: Evidence, *, acknowledged: Mapping[str, str]) -> None:
    """Each id that was answered 201 has its certificate, each exactly one, and the CA's are all ours."""
    names = {row["uid"]: row["id"] for row in evidence.entries}
    stored = Counter(names[row["entry_uid"]] for row in evidence.versions)
    del stored["placeholder"]
    assert set(acknowledged) <= set(stored), f"lost: {sorted(set(acknowledged) - set(stored))}"
    assert not [name for name, count in stored.items() if count > 1], "a certificate was stored twice"
    operations = Counter(row["entry_id"] for row in evidence.operations)
    assert operations == stored, "an id has another number of operations than of certificates"
    assert evidence.certificates_at_ca == stored.total(), "the CA issued certificates that we don't have"
    for row in evidence.versions:
        if (name := acknowledged.get(names[row["entry_uid"]])) is not None:
            leaf = x509.load_pem_x509_certificate(row["chain_pem"].encode())
            san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert san.get_values_for_type(x509.DNSName) == [name]


def check_no_finished_step_ran_twice(evidence: Evidence) -> None:
    """No step was begun after the instant that its checkpoint says it was finished at."""
    finished = {(row["workflow_uuid"], row["function_name"]): row["completed_at_epoch_ms"] for row in evidence.steps}
    assert len(finished) == len(evidence.steps), "a workflow has the same step twice"
    begun = [line for line in evidence.log if line.get("event") in STEP_OF]
    assert begun, "there is no log to judge by"
    for line in begun:
        workflow = workflow_id(OperationID(line["operation"]), line["attempt"])
        step = STEP_OF[line["event"]]
        at = datetime.fromisoformat(line["timestamp"]).timestamp() * 1000
        end = finished.get((workflow, step))
        assert end is not None, f"{step} of {workflow} was begun and has no checkpoint"
        # Checkpoints have whole milliseconds, cut off.
        assert at < end + 1, f"{step} of {workflow} was finished at {end} and ran again at {at:.3f}"


def check_ledger(evidence: Evidence) -> None:
    """No order was asked for without being counted."""
    counted = Counter(row["order_id"] for row in evidence.requests)
    logged = Counter(line["order"] for line in evidence.log if line.get("event") == "order.counted")
    assert evidence.orders_at_ca <= len(evidence.requests), "the CA has more orders than the ledger"
    assert evidence.orders_at_ca >= len({row["url"] for row in evidence.intents}), "orders share a URL"
    for row in evidence.intents:
        assert counted[row["id"]] == row["requests"] >= 1, f"order {row['id']} is counted differently in two tables"
        assert logged[row["id"]] <= row["requests"], f"order {row['id']} was asked for without being counted"
    # The first request of each, and one more for each repeat.
    repeats = sum(row["requests"] - 1 for row in evidence.intents)
    assert len(evidence.requests) == len(evidence.intents) + repeats


def check_nothing_is_under_way(evidence: Evidence) -> None:
    """Every operation came to its end, every workflow too, by way of all steps."""
    assert {row["state"] for row in evidence.operations} == {"succeeded"}, "an operation did not succeed"
    assert {row["status"] for row in evidence.workflows} == {"SUCCESS"}, "a workflow was left"
    for row in evidence.operations:
        workflow = workflow_id(OperationID(row["id"]), row["attempt"])
        steps = sorted(
            (step["function_id"], step["function_name"]) for step in evidence.steps if step["workflow_uuid"] == workflow
        )
        assert [name for _, name in steps] == ORDER_OF_STEPS, f"{workflow} has the steps {steps}"


def check_no_attempt_failed(evidence: Evidence) -> None:
    """Nothing went wrong outside: the kills alone make no attempt fail."""
    failures = [line for line in evidence.log if line.get("event") == "issuance.attempt_failed"]
    assert not failures, f"attempts failed: {failures}"
    assert {row["attempt"] for row in evidence.operations} == {1}, "an operation took more than one attempt"


def check_keys(evidence: Evidence, *, keyring: Keyring) -> None:
    """Every stored key opens and is its certificate's; no other copy of it is left."""
    for row in evidence.versions:
        context = key_context(VersionID(row["id"]))
        try:
            key = load_pem_private_key(keyring.open(row["sealed_key"], context=context), password=None)
        except Broken as error:
            raise AssertionError(f"the key of {row['id']} does not open") from error
        leaf = x509.load_pem_x509_certificate(row["chain_pem"].encode())
        assert _public(key.public_key()) == _public(leaf.public_key()), f"{row['id']} has another key"
    left = [row["id"] for row in evidence.intents if row["sealed_key"]]
    assert not left, f"orders that are done keep their key: {left}"


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded

"""The issuance workflow without an engine: what each step writes down, and what follows from each failure."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from issuance_parts import PROD, SHOP, Lab, make_lab

from certorbit.errors import (
    AccountProblem,
    CertorbitError,
    ChallengeFailed,
    IssuerRefused,
    OrderLost,
    RateLimited,
    RetryRule,
    Unreachable,
    retry_at,
)
from certorbit.model.material import PrivateKeyPEM
from certorbit.model.operation import OperationID, OperationState
from certorbit.model.order import OrderID, OrderIntent, order_key_context
from certorbit.pki.private_key import public_key_sha256
from certorbit.ports.store import UnitOfWork
from certorbit.services import certificates, promises
from certorbit.tls_settings import TLSSettings
from fakes.fake_chains import ChainMaker, make_csr

NAMES = ("www.example.com", "example.com")
ALL_DONE = [("place_order", "done"), ("prove", "done"), ("finalise", "done"), ("store", "done")]
NewLab = Callable[[], Awaitable[Lab]]

REFUSED = IssuerRefused("The CA refused.", type="urn:ietf:params:acme:error:rejectedIdentifier", detail="no")
UNREACHABLE = Unreachable("No answer.", subject="ca.example", phase="read")
LIMITED = RateLimited("Slow down.", type="urn:ietf:params:acme:error:rateLimited", detail="slow down")
AWAY = Unreachable("The database is away.", subject="db", phase="database")


@pytest.fixture
async def lab(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Lab]:
    made = await make_lab(tmp_path / "lab.db", template=sqlite_template, names=NAMES)
    yield made
    await made.store.close()


async def promise(lab: Lab) -> None:
    """What a POST does when its wait is over."""
    await lab.store.write(lambda tx: promises.promise(tx, lab.operation_id, now=lab.clock.now()))


async def test_an_issuance_ends_with_a_version_whose_key_opens(lab: Lab) -> None:
    operation = await lab.drive()
    assert (operation.state, operation.attempt, operation.issuer_name) == (OperationState.SUCCEEDED, 1, "scripted")
    assert operation.finished_at is not None
    entry = await lab.entry()
    assert entry is not None
    assert entry.current is not None
    assert entry.current.facts.san == tuple(reversed(NAMES)) or entry.current.facts.san == NAMES
    assert entry.current.issuer_name == "scripted"
    assert entry.current.sealed_key is not None
    key = lab.keyring.open(entry.current.sealed_key, context=f"version:{entry.current.id}")
    assert public_key_sha256(PrivateKeyPEM(key.decode())) == entry.current.facts.public_key_sha256
    assert lab.steps() == ALL_DONE
    assert lab.count_rows() == {"versions": 1, "orders": 1, "requests": 1, "keys": 0}
    assert lab.issuer.calls == ["place_order", "prove", "finalise", "collect"]
    assert set(lab.woken) == {lab.operation_id}


async def test_the_key_and_the_count_are_stored_before_the_ca_is_asked(lab: Lab) -> None:
    lab.issuer.script["place_order"] = deque([UNREACHABLE])
    await lab.drive(attempts=1)
    assert lab.count_rows() == {"versions": 0, "orders": 1, "requests": 1, "keys": 1}
    intent = await lab.store.read(lambda tx: tx.orders.find(lab.operation_id, 2))
    assert intent is not None
    assert lab.keyring.open(intent.sealed_key, context=order_key_context(intent.id)).startswith(b"-----BEGIN")


@pytest.mark.parametrize("step", ["place_order", "prove", "finalise", "collect"])
async def test_a_final_refusal_that_nobody_was_promised_anything_of_deletes_the_entry(lab: Lab, step: str) -> None:
    lab.issuer.script[step] = deque([REFUSED])
    operation = await lab.drive()
    assert (operation.state, operation.attempt) == (OperationState.FAILED, 1)
    assert operation.finished_at == operation.updated_at
    assert operation.problem is not None
    assert (operation.problem.message, operation.problem.type) == ("The CA refused.", REFUSED.type)
    assert await lab.entry() is None
    assert list(lab.jobs) == ["operation-1.1"]
    assert lab.count_rows()["keys"] == 0
    assert lab.steps()[-2:] == [("store" if step == "collect" else step, "failed"), ("conclude", "done")]


@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        ChallengeFailed("bad.", type="urn:ietf:params:acme:error:dns", detail="x", subproblems={"example.com": "dns"}),
        AccountProblem("Bind.", type="urn:ietf:params:acme:error:externalAccountRequired", detail="bind"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_was_promised_stays_and_is_tried_again_with_a_new_order_and_key(
    lab: Lab, error: IssuerRefused
) -> None:
    await promise(lab)
    lab.issuer.script["prove"] = deque([error])
    waiting = await lab.drive(attempts=1)
    assert (waiting.state, waiting.attempt, waiting.finished_at) == (OperationState.WAITING, 2, None)
    assert waiting.problem is not None
    assert waiting.problem.subproblems == error.subproblems
    assert waiting.next_attempt_at == waiting.updated_at + timedelta(minutes=1)
    assert lab.jobs["operation-1.2"].delay_seconds == 60
    assert await lab.entry() is not None
    assert lab.count_rows()["keys"] == 0, "the refused order's key is of no more use"
    lab.issuer.orders["https://ca.example/order/1"].status = "invalid"

    operation = await lab.drive()
    assert (operation.state, operation.attempt, operation.problem) == (OperationState.SUCCEEDED, 2, None)
    assert lab.count_rows() == {"versions": 1, "orders": 2, "requests": 2, "keys": 0}
    assert lab.issuer.count("place_order") == 2


async def test_a_promise_between_two_attempts_counts(lab: Lab) -> None:
    lab.issuer.script = {"prove": deque([LIMITED]), "finalise": deque([REFUSED])}
    assert (await lab.drive(attempts=1)).state is OperationState.WAITING
    await promise(lab)
    lab.recorded.clear()
    await lab.run_attempt(2)
    operation = await lab.operation()
    assert (operation.state, operation.attempt) == (OperationState.WAITING, 3)
    assert await lab.entry() is not None


@pytest.mark.parametrize("error", [UNREACHABLE, LIMITED], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["prove", "finalise", "collect"])
async def test_after_an_outage_the_next_attempt_goes_on_with_the_same_order(
    lab: Lab, step: str, error: CertorbitError
) -> None:
    lab.issuer.script[step] = deque([error])
    waiting = await lab.drive(attempts=1)
    assert (waiting.state, waiting.promised) == (OperationState.WAITING, False), "nobody has to be promised anything"
    operation = await lab.drive()
    assert (operation.state, operation.attempt) == (OperationState.SUCCEEDED, 2)
    assert lab.steps(attempt=2) == ALL_DONE
    assert lab.count_rows() == {"versions": 1, "orders": 1, "requests": 1, "keys": 0}
    assert lab.issuer.count("place_order") == 1
    assert lab.issuer.count("find_orders") == 0


async def test_an_order_whose_answer_was_lost_is_looked_for_before_another_one_is_asked_for(lab: Lab) -> None:
    lab.issuer.afterwards["place_order"] = UNREACHABLE
    assert (await lab.drive()).state is OperationState.SUCCEEDED
    assert (lab.issuer.count("place_order"), lab.issuer.count("find_orders")) == (1, 1)
    assert lab.count_rows() == {"versions": 1, "orders": 1, "requests": 1, "keys": 0}


async def test_without_a_list_of_orders_it_is_counted_and_asked_for_again(lab: Lab) -> None:
    lab.issuer.has_order_list = False
    lab.issuer.afterwards["place_order"] = UNREACHABLE
    assert (await lab.drive()).state is OperationState.SUCCEEDED
    assert lab.issuer.count("place_order") == 2
    assert lab.count_rows() == {"versions": 1, "orders": 1, "requests": 2, "keys": 0}


async def test_an_order_of_another_operation_is_not_taken(lab: Lab) -> None:
    other = "https://ca.example/order/of-another"
    await lab.issuer.place_order([])
    lab.issuer.orders[other] = lab.issuer.orders.pop("https://ca.example/order/1")
    lab.issuer.orders[other].identifiers = frozenset(NAMES)

    def add_other(tx: UnitOfWork) -> None:
        tx.orders.add(
            OrderIntent(
                id=OrderID("order-of-another"),
                operation=OperationID("operation-0"),
                attempt=1,
                issuer_name="scripted",
                account="https://ca.example/dir",
                identifiers=NAMES,
                identifiers_hash="",
                sealed_key=b"",
                url=other,
                requests=1,
                created_at=lab.clock.now(),
            )
        )

    await lab.store.write(add_other)
    lab.issuer.script["place_order"] = deque([UNREACHABLE])
    assert (await lab.drive()).state is OperationState.SUCCEEDED
    assert lab.issuer.orders[other].status == "pending"
    assert lab.issuer.count("find_orders") == 1


@pytest.mark.parametrize("fault", ["names", "key"])
async def test_a_certificate_that_was_not_asked_for_is_a_failed_attempt_and_the_next_has_a_new_key(
    lab: Lab, fault: str
) -> None:
    maker = ChainMaker("Odd")
    odd = make_csr("other.example.com") if fault == "names" else make_csr(*NAMES)
    asked: list[bytes] = []

    def issue(csr_der: bytes) -> bytes:
        asked.append(csr_der)
        return maker.issue(odd if len(asked) == 1 else csr_der)

    lab.issuer.chain_for = issue
    waiting = await lab.drive(attempts=1)
    assert (waiting.state, waiting.attempt) == (OperationState.WAITING, 2)
    assert waiting.problem is not None
    assert (waiting.problem.type, waiting.problem.retry) == ("BadIssue", RetryRule.BACKOFF)
    assert lab.count_rows() == {"versions": 0, "orders": 1, "requests": 1, "keys": 0}
    assert (await lab.drive()).state is OperationState.SUCCEEDED
    assert len(asked) == 2
    assert asked[0] != asked[1]
    assert lab.count_rows() == {"versions": 1, "orders": 2, "requests": 2, "keys": 0}


async def test_a_lost_order_is_replaced_by_a_new_one(lab: Lab) -> None:
    lab.issuer.script["finalise"] = deque([OrderLost("It expired.", type="about:blank", detail="expired")])
    assert (await lab.drive()).state is OperationState.SUCCEEDED
    assert lab.issuer.count("place_order") == 2


async def test_the_ladder_is_climbed_and_a_time_of_the_ca_wins(lab: Lab) -> None:
    await promise(lab)
    instant = lab.clock.now() + timedelta(days=3)
    told = RateLimited("Wait.", type="urn:ietf:params:acme:error:rateLimited", detail="wait", retry=retry_at(instant))
    lab.issuer.script["place_order"] = deque([REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, told])
    delays = []
    for attempt in range(1, 6):
        await lab.run_attempt(attempt)
        delays.append(lab.jobs[f"operation-1.{attempt + 1}"].delay_seconds)
    assert delays == [60, 600, 6000, 86400, 86400]
    await lab.run_attempt(6)
    assert (await lab.operation()).next_attempt_at == instant
    assert lab.jobs["operation-1.7"].delay_seconds == timedelta(days=3).total_seconds()


async def delete(lab: Lab) -> None:
    now, own_tls = lab.clock.now(), TLSSettings()
    await lab.store.write(lambda tx: certificates.delete(tx, PROD, SHOP, by="tester", now=now, own_tls=own_tls))


@pytest.mark.parametrize("at", ["place_order", "prove", "finalise", "collect"])
async def test_an_entry_that_is_deleted_meanwhile_is_cancelled_and_nothing_is_stored(lab: Lab, at: str) -> None:
    """The deletion comes while the issuer works on the call."""
    call = getattr(lab.issuer, at)

    async def call_and_delete(*args: object, **kwargs: object) -> object:
        result = await call(*args, **kwargs)
        await delete(lab)
        return result

    setattr(lab.issuer, at, call_and_delete)
    operation = await lab.drive()
    assert operation.state is OperationState.CANCELLED
    assert await lab.entry() is None
    assert lab.steps()[-1][1] == "cancelled"
    assert lab.count_rows() | {"orders": 1} == {"versions": 0, "orders": 1, "requests": 1, "keys": 0}
    assert list(lab.jobs) == ["operation-1.1"]


async def test_what_was_deleted_before_it_began_asks_nothing_of_the_ca(lab: Lab) -> None:
    await delete(lab)
    assert (await lab.drive()).state is OperationState.CANCELLED
    assert lab.steps() == [("place_order", "cancelled")]
    assert lab.issuer.calls == []
    assert lab.count_rows() == {"versions": 0, "orders": 0, "requests": 0, "keys": 0}


async def test_a_failure_after_the_deletion_changes_nothing(lab: Lab) -> None:
    async def delete_and_fail(order_url: str) -> None:
        await delete(lab)
        raise REFUSED

    lab.issuer.prove = delete_and_fail  # type: ignore[method-assign]
    operation = await lab.drive()
    assert (operation.state, operation.problem) == (OperationState.CANCELLED, None)
    assert list(lab.jobs) == ["operation-1.1"]
    assert lab.count_rows()["keys"] == 0


@pytest.mark.parametrize("turn", range(4))
async def test_a_database_that_is_away_is_waited_for(lab: Lab, turn: int) -> None:
    """It is away when the transaction number `turn` (there are four) begins, and twice more."""
    lab.mortal_store.away = deque([*[None] * turn, AWAY, AWAY, AWAY])
    operation = await lab.drive()
    assert not lab.mortal_store.away, "there are that many transactions"
    assert (operation.state, operation.attempt) == (OperationState.SUCCEEDED, 1)
    assert lab.steps() == ALL_DONE
    assert [pause for pause in lab.clock.slept if pause > 0] == sorted(lab.clock.slept), "each pause is longer"
    assert len(lab.clock.slept) == 3
    assert lab.issuer.count("place_order") == 1
    assert lab.count_rows()["versions"] == 1


@pytest.mark.parametrize("turn", range(3))
async def test_a_commit_whose_answer_was_lost_is_not_made_twice(lab: Lab, turn: int) -> None:
    lab.mortal_store.lost_answers = deque([*[None] * turn, AWAY])
    operation = await lab.drive()
    assert not lab.mortal_store.lost_answers
    assert (operation.state, operation.attempt) == (OperationState.SUCCEEDED, 1)
    assert lab.steps() == ALL_DONE
    rows = lab.count_rows()
    assert (rows["versions"], rows["orders"], rows["keys"]) == (1, 1, 0)
    assert lab.issuer.count("place_order") == 1
    assert rows["requests"] >= 1


async def test_a_bug_is_a_failed_attempt_that_is_tried_again(lab: Lab) -> None:
    await lab.issuance().record_broken(lab.operation_id, 1, "a1b2c3")
    waiting = await lab.operation()
    assert (waiting.state, waiting.attempt) == (OperationState.WAITING, 2)
    assert waiting.problem is not None
    assert (waiting.problem.type, waiting.problem.retry) == ("Broken", RetryRule.BACKOFF)
    assert "a1b2c3" in waiting.problem.message
    await lab.issuance().record_broken(lab.operation_id, 1, "d4e5f6")
    assert await lab.operation() == waiting, "the same attempt is concluded once"
    assert (await lab.drive()).state is OperationState.SUCCEEDED


async def test_an_attempt_that_was_overtaken_does_nothing(lab: Lab) -> None:
    await lab.issuance().record_broken(lab.operation_id, 1, "a1b2c3")
    await lab.run_attempt(1)
    assert lab.steps(1) == [("place_order", "cancelled")]
    assert lab.issuer.calls == []
    assert (await lab.operation()).attempt == 2

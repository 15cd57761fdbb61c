"""The issuance workflow and the CA's limits: what waits, until when, what is counted, what is remembered of names."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from issuance_parts import CHAINS, Death, Lab, make_lab

from certorbit.errors import ChallengeFailed, IssuerRefused, RateLimited, Unreachable, retry_at
from certorbit.limiting.failures import note_failures
from certorbit.limiting.orders import spend
from certorbit.model.ca_limits import AccountKey, CALimits, Charge, LimitPolicy
from certorbit.model.entry import Entry
from certorbit.model.identifier_failure import FAILING, LIMITED
from certorbit.model.limits import Rule, RuleName
from certorbit.model.operation import Operation, OperationKind, OperationState
from certorbit.model.renewal import RenewalInfo
from certorbit.model.schedule import Schedule
from certorbit.services import promises, renewals
from certorbit.storage.tables import order_requests
from fakes.clock import FakeChance
from fakes.fake_chains import make_csr

NAMES = ("www.example.com", "example.com")
CA = "https://ca.example/dir"
ACCOUNT = AccountKey(CA, "scripted")
MINUTES = timedelta(minutes=20)
DOMAIN = Rule(RuleName.CERTIFICATES_PER_DOMAIN, 2, MINUTES)
SAME_SET = Rule(RuleName.CERTIFICATES_PER_SET, 3, MINUTES)
ORDERS = Rule(RuleName.ORDERS_PER_ACCOUNT, 2, MINUTES)
FAILED = Rule(RuleName.FAILED_AUTHORIZATIONS, 2, MINUTES)
LIMITS = CALimits("ca.example", {rule.name: rule for rule in (DOMAIN, SAME_SET, FAILED)})
NO_PROOF = ChallengeFailed(
    "The CA could not validate example.com: dns: NXDOMAIN",
    type="urn:ietf:params:acme:error:dns",
    detail="NXDOMAIN",
    subproblems={"example.com": "dns: NXDOMAIN"},
)


@pytest.fixture
async def lab(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Lab]:
    made = await make_lab(tmp_path / "lab.db", template=sqlite_template, names=NAMES)
    made.limits = LimitPolicy({CA: LIMITS})
    yield made
    await made.store.close()


async def use_up(lab: Lab, rule: Rule, subject: str, *, tokens: int | None = None) -> datetime:
    """Take the bucket's tokens, as other certificates did. Returns when the next one comes in."""
    now: datetime = lab.clock.now()
    for _ in range(rule.capacity if tokens is None else tokens):
        await lab.store.write(lambda tx: spend(tx, CA, [Charge(rule, subject)], now=now))
    return now + rule.refill


async def promise(lab: Lab) -> None:
    await lab.store.write(lambda tx: promises.promise(tx, lab.operation_id, now=lab.clock.now()))


async def start_renewal(lab: Lab, *, window: tuple[timedelta, timedelta] | None = None) -> None:
    """Let the sweep start a renewal, which the lab drives from now on. window: the CA's, from now."""
    lab.clock.advance(days=60)
    now = lab.clock.now()
    entry = await lab.entry()
    assert entry is not None
    kept: Entry = entry
    info = RenewalInfo(now + window[0], now + window[1], "", now, now, now, "") if window else None
    operation = await lab.store.write(
        lambda tx: renewals.start_operation(
            tx, kept, OperationKind.RENEW, issuer="", now=now, new_id=lambda: "operation-2"
        )
    )
    await lab.store.write(lambda tx: tx.schedules.put(Schedule(entry_uid=kept.uid, look_at=None, info=info)))
    lab.operation_id = operation.id


def kinds(lab: Lab) -> list[str]:
    with lab.store.engine.connect() as connection:
        return list(connection.scalars(sa.select(order_requests.c.kind).order_by(order_requests.c.id)))


async def tokens_spent(lab: Lab, subject: str, rule: Rule, *, started_at: datetime) -> float:
    found = await lab.store.read(lambda tx: tx.limits.find(CA, [subject]))
    spent = [bucket.full_at - started_at for bucket in found if bucket.rule is rule.name]
    return sum(spent, timedelta(0)) / rule.refill


async def test_what_would_exceed_a_limit_waits_and_says_until_when(lab: Lab) -> None:
    free_at = await use_up(lab, DOMAIN, "example.com")
    operation = await lab.drive(attempts=1)
    assert (operation.state, operation.attempt, operation.next_attempt_at) == (OperationState.WAITING, 2, free_at)
    problem = operation.problem
    assert problem is not None
    assert (problem.type, problem.retry_at, problem.keeps_order) == (LIMITED, free_at, False)
    assert problem.message == (
        "It waits, so that the CA's limit is not exceeded. example.com: 2 certificates per 40 minutes at ca.example;"
        f" next at {free_at:%Y-%m-%d %H:%M:%S} UTC."
    )
    assert lab.steps() == [("place_order", "failed"), ("conclude", "done")]
    assert lab.issuer.calls == []
    assert lab.count_rows() == {"versions": 0, "orders": 0, "requests": 0, "keys": 0}
    assert await lab.entry() is not None, "a POST that waits for it is answered 201"

    operation = await lab.drive()
    assert (operation.state, operation.attempt, lab.clock.now()) == (OperationState.SUCCEEDED, 2, free_at)
    assert lab.count_rows() == {"versions": 1, "orders": 1, "requests": 1, "keys": 0}


@pytest.mark.parametrize(
    ("rule", "subject", "blames_issuer"),
    [(DOMAIN, "example.com", True), (FAILED, "scripted example.com", False)],
    ids=["the CA limits us", "the name fails"],
)
async def test_another_issuer_is_of_use_unless_the_names_are_at_fault(
    lab: Lab, rule: Rule, subject: str, *, blames_issuer: bool
) -> None:
    await use_up(lab, rule, subject)
    operation = await lab.drive(attempts=1)
    assert operation.problem is not None
    assert (operation.problem.type, operation.problem.blames_issuer) == (LIMITED, blames_issuer)
    assert operation.issuer_name == "scripted"


async def test_a_ca_without_limits_is_asked_at_once(lab: Lab) -> None:
    await use_up(lab, DOMAIN, "example.com")
    lab.limits = LimitPolicy()
    assert (await lab.drive()).state is OperationState.SUCCEEDED
    assert (await lab.operation()).attempt == 1


async def test_a_name_that_fails_is_remembered_until_it_succeeds(lab: Lab) -> None:
    await promise(lab)
    lab.issuer.script["prove"] = deque([NO_PROOF])
    operation = await lab.drive(attempts=1)
    now = lab.clock.now()
    [failure] = await lab.store.read(lambda tx: tx.failures.list())
    assert (failure.account, failure.identifier, failure.sentence) == (ACCOUNT, "example.com", "dns: NXDOMAIN")
    assert failure.next_at == operation.next_attempt_at == now + timedelta(minutes=1)
    assert await tokens_spent(lab, "scripted example.com", FAILED, started_at=now) == 1
    assert (await lab.drive()).state is OperationState.SUCCEEDED
    assert await lab.store.read(lambda tx: tx.failures.list()) == []


async def fail_name(lab: Lab, *, times: int) -> datetime:
    """Let another certificate with the name fail. Returns until when the name is held back."""
    now = lab.clock.now()
    until = None
    for _ in range(times):
        until = await lab.store.write(
            lambda tx: note_failures(
                tx,
                ACCOUNT,
                NO_PROOF.subproblems,
                since=None,
                limits=None,
                now=now,
                uniform=FakeChance(0.0).between,
            )
        )
    assert until is not None
    return until


async def test_a_renewal_with_a_name_that_failed_elsewhere_waits_and_names_it(lab: Lab) -> None:
    await lab.drive()
    await start_renewal(lab)
    until = await fail_name(lab, times=3)
    operation = await lab.drive(attempts=1)
    assert (operation.state, operation.next_attempt_at) == (OperationState.WAITING, until)
    assert operation.problem is not None
    assert (operation.problem.type, operation.problem.subproblems) == (FAILING, NO_PROOF.subproblems)
    assert operation.problem.message == (
        "It waits, because the CA could not validate it not long ago. example.com: failed 3 times in a row, last with"
        f" dns: NXDOMAIN; next try at {until:%Y-%m-%d %H:%M:%S} UTC. Mend the name, or take it out of the certificate."
    )
    assert lab.count_rows()["requests"] == 1, "nothing was sent or counted"
    [failure] = await lab.store.read(lambda tx: tx.failures.list())
    assert failure.failures == 3, "waiting is no failure"
    assert (await lab.drive()).state is OperationState.SUCCEEDED


async def test_what_an_operator_asks_for_is_not_held_back_by_older_failures(lab: Lab) -> None:
    lab.clock.advance(-60)
    until = await fail_name(lab, times=4)
    lab.clock.advance(60)
    await promise(lab)
    lab.issuer.script["prove"] = deque([NO_PROOF])
    operation = await lab.drive(attempts=1)
    assert lab.issuer.count("place_order") == 1
    assert operation.next_attempt_at == lab.clock.now() + timedelta(minutes=1) < until
    assert (await lab.drive()).state is OperationState.SUCCEEDED


async def test_a_forgotten_name_may_be_tried_at_once(lab: Lab) -> None:
    await lab.drive()
    await start_renewal(lab)
    await fail_name(lab, times=4)
    await lab.store.write(lambda tx: tx.failures.forget(["example.com"]))
    operation = await lab.drive(attempts=1)
    assert operation.state is OperationState.SUCCEEDED


async def test_a_refusal_of_the_ca_for_a_limit_makes_others_wait_too(lab: Lab) -> None:
    until = lab.clock.now() + timedelta(hours=1)
    lab.issuer.script["place_order"] = deque(
        [
            RateLimited(
                "Slow down.",
                type="urn:ietf:params:acme:error:rateLimited",
                detail='too many certificates (2) already issued for "example.com" in the last 40m0s, retry after',
                retry=retry_at(until),
            )
        ]
    )
    waiting = await lab.drive(attempts=1)
    assert (waiting.state, waiting.next_attempt_at) == (OperationState.WAITING, until)
    [bucket] = await lab.store.read(lambda tx: tx.limits.find(CA, ["example.com"]))
    assert bucket.token_at(DOMAIN) == until
    assert (await lab.drive()).state is OperationState.SUCCEEDED


async def test_a_repeated_request_needs_a_token_of_its_own_and_keeps_its_order(lab: Lab) -> None:
    lab.limits = LimitPolicy({CA: CALimits("ca.example", {ORDERS.name: ORDERS})})
    await use_up(lab, ORDERS, "scripted", tokens=1)
    lab.issuer.has_order_list = False
    lab.issuer.script["place_order"] = deque([Unreachable("No answer.", subject="ca", phase="read")])
    await lab.drive(attempts=1)
    assert lab.count_rows()["requests"] == 1
    lab.clock.advance(60)
    await lab.run_attempt(2)
    waiting = await lab.operation()
    assert waiting.problem is not None
    assert (waiting.state, waiting.problem.type, waiting.problem.keeps_order) == (OperationState.WAITING, LIMITED, True)
    assert lab.issuer.count("place_order") == 1
    lab.clock.advance((waiting.next_attempt_at or lab.clock.now()).timestamp() - lab.clock.now().timestamp())
    await lab.run_attempt(3)
    assert (await lab.operation()).state is OperationState.SUCCEEDED
    assert lab.count_rows() == {"versions": 1, "orders": 1, "requests": 2, "keys": 0}


@pytest.mark.parametrize(
    ("window", "kind", "waits"),
    [
        pytest.param((-timedelta(hours=1), timedelta(hours=1)), "ari-renewal", False, id="its window is open"),
        pytest.param((timedelta(hours=1), timedelta(hours=2)), "renewal", True, id="before its window"),
        pytest.param((-timedelta(hours=2), timedelta(0)), "renewal", True, id="its window is just over"),
        pytest.param(None, "renewal", True, id="the CA said nothing"),
    ],
)
async def test_only_a_renewal_in_its_window_is_exempt(
    lab: Lab, window: tuple[timedelta, timedelta] | None, kind: str, *, waits: bool
) -> None:
    await lab.drive()
    await start_renewal(lab, window=window)
    entry = await lab.entry()
    assert entry is not None
    assert entry.current is not None
    await use_up(lab, DOMAIN, "example.com")
    await use_up(lab, SAME_SET, entry.current.le_hash)
    operation = await lab.drive(attempts=1)
    assert operation.state is (OperationState.WAITING if waits else OperationState.SUCCEEDED)
    assert (await lab.drive()).state is OperationState.SUCCEEDED
    assert kinds(lab) == ["new", kind]


async def test_a_window_of_an_older_version_exempts_nothing(lab: Lab) -> None:
    await lab.drive()
    await start_renewal(lab, window=(-timedelta(hours=1), timedelta(hours=1)))
    entry = await lab.entry()
    assert entry is not None
    schedule = await lab.store.read(lambda tx: tx.schedules.find(entry.uid))
    assert schedule is not None
    assert schedule.info is not None
    old = replace(schedule, info=replace(schedule.info, checked_at=lab.clock.now() - timedelta(days=90)))
    await lab.store.write(lambda tx: tx.schedules.put(old))
    await lab.drive(attempts=1)
    assert kinds(lab) == ["new", "renewal"]


async def test_a_replacement_that_the_ca_refuses_is_counted_as_a_renewal(lab: Lab) -> None:
    await lab.drive()
    await start_renewal(lab, window=(-timedelta(hours=1), timedelta(hours=1)))
    refusal = IssuerRefused("no", type="urn:ietf:params:acme:error:malformed", detail="unknown predecessor")
    lab.issuer.script["place_order"] = deque([refusal])
    assert (await lab.drive(attempts=1)).state is OperationState.SUCCEEDED
    assert kinds(lab) == ["new", "ari-renewal", "renewal"]


async def test_a_death_anywhere_never_lets_a_request_go_without_its_token(
    tmp_path: Path, sqlite_template: Path
) -> None:
    places = await count_places(tmp_path, sqlite_template)
    assert places > 20
    for place in range(1, places + 1):
        lab = await make_lab(
            tmp_path / f"{place}.db", template=sqlite_template, death=Death(place), names=("a.example.com",)
        )
        generous = Rule(RuleName.ORDERS_PER_ACCOUNT, 100, timedelta(days=1))
        lab.limits = LimitPolicy({CA: CALimits("ca.example", {generous.name: generous})})
        started_at = lab.clock.now()
        operation: Operation = await lab.drive()
        assert operation.state is OperationState.SUCCEEDED
        spent = await tokens_spent(lab, "scripted", generous, started_at=started_at)
        assert lab.issuer.count("place_order") <= round(spent) == lab.count_rows()["requests"]
        await lab.store.close()


async def count_places(tmp_path: Path, sqlite_template: Path) -> int:
    lab = await make_lab(tmp_path / "count.db", template=sqlite_template, names=("a.example.com",))
    await lab.drive()
    await lab.store.close()
    return lab.death.places


# --- what no certificate came of ---------------------------------------------

CERTIFICATES = Rule(RuleName.CERTIFICATES_PER_SET, 1, timedelta(days=7))
BOTH = LimitPolicy({CA: CALimits("ca.example", {rule.name: rule for rule in (CERTIFICATES, ORDERS)})})
BY_PHASE = [("connect", ["uncounted", "new"], 1), ("read", ["barren", "new"], 2)]


@pytest.mark.parametrize(("phase", "counted", "orders"), BY_PHASE, ids=["never-sent", "answer-lost"])
async def test_a_request_in_an_outage_does_not_use_up_the_certificates(
    lab: Lab, phase: str, counted: list[str], orders: int
) -> None:
    """The CA counts certificates that it issued: the ladder must not lock us out before it is back."""
    lab.limits = BOTH
    lab.issuer.has_order_list = False
    lab.issuer.script["place_order"] = deque([Unreachable("No answer.", subject="ca", phase=phase)])
    started_at = lab.clock.now()
    operation = await lab.drive()
    assert (operation.state, operation.attempt) == (OperationState.SUCCEEDED, 2)
    assert kinds(lab) == counted
    assert round(await tokens_spent(lab, "scripted", ORDERS, started_at=started_at)) == orders


async def test_an_order_that_was_given_up_unproven_does_not_use_up_the_certificates(lab: Lab) -> None:
    lab.limits = BOTH
    lab.issuer.script["prove"] = deque([NO_PROOF])
    await promise(lab)
    operation = await lab.drive()
    assert (operation.state, operation.attempt) == (OperationState.SUCCEEDED, 2)
    assert kinds(lab) == ["barren", "new"]


async def test_a_certificate_that_was_asked_for_stays_counted(lab: Lab) -> None:
    lab.limits = BOTH
    lab.issuer.chain_for = lambda _: CHAINS.issue(make_csr("elsewhere.example"))
    await promise(lab)
    operation = await lab.drive(attempts=1)
    assert operation.problem is not None
    assert operation.problem.type == "BadIssue"
    assert kinds(lab) == ["new"]
    lab.clock.advance(minutes=10)
    await lab.run_attempt(2)
    operation = await lab.operation()
    assert operation.problem is not None
    assert operation.problem.type == LIMITED


async def test_an_order_that_is_found_again_after_all_is_counted_again(lab: Lab) -> None:
    """Its answer was lost, and what it took was given back when another request for it was counted."""
    lab.limits = BOTH
    lost = Unreachable("No answer.", subject="ca", phase="read")
    lab.issuer.has_order_list = False
    lab.issuer.afterwards["place_order"] = lost
    lab.issuer.script["place_order"] = deque([None, Unreachable("No.", subject="ca", phase="connect")])
    await lab.drive(attempts=2)
    assert kinds(lab) == ["barren", "uncounted"]
    lab.issuer.has_order_list = True
    lab.clock.advance(minutes=30)
    await lab.run_attempt(3)
    assert (await lab.operation()).state is OperationState.SUCCEEDED
    assert kinds(lab) == ["barren", "uncounted", "new"]
    assert len(lab.issuer.orders) == 1

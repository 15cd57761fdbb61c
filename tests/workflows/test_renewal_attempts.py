"""What a renewal does at the CAs: the predecessor's name, the key, and which issuer's turn it is."""

from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from issuance_parts import PROD
from renewal_desk import Desk

from certorbit.errors import (
    AlreadyReplaced,
    CAAForbids,
    ChallengeFailed,
    IssuerRefused,
    RateLimited,
    Unreachable,
    retry_at,
)
from certorbit.model.entry import Source
from certorbit.model.operation import OperationState
from certorbit.pki.ari import make_cert_id
from certorbit.storage.tables import order_requests

AGE = timedelta(days=30)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
AWAY = Unreachable("No answer.", subject="ca.example", phase="connect")
TAKEN = AlreadyReplaced("Replaced.", type="urn:ietf:params:acme:error:alreadyReplaced", detail="replaced", status=409)
MALFORMED = IssuerRefused("What is replaces?", type="urn:ietf:params:acme:error:malformed", detail="unknown field")
LIMITED = RateLimited("Slow down.", type="urn:ietf:params:acme:error:rateLimited", detail="slow down")
FAILED = ChallengeFailed(
    "Wrong answer.",
    type="urn:ietf:params:acme:error:unauthorized",
    detail="wrong answer",
    subproblems={"www.example.com": "wrong answer"},
)


@pytest.fixture
async def desk(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "desk.db", template=sqlite_template)
    await made.open()
    yield made
    await made.store.close()


def limited_for(desk: Desk, time: timedelta) -> RateLimited:
    return RateLimited(
        "Slow down.",
        type="urn:ietf:params:acme:error:rateLimited",
        detail="slow down",
        retry=retry_at(desk.clock.now() + time),
    )


# --- the predecessor ---------------------------------------------------------


async def test_the_order_names_the_version_that_it_replaces(desk: Desk) -> None:
    uid = await desk.add(age=AGE)
    old = await desk.version(uid)
    operation = await desk.renew()
    assert operation.state is OperationState.SUCCEEDED
    assert desk.first.replaced == [make_cert_id(old.chain_pem)]
    assert desk.first.replaced != [None]


@pytest.mark.parametrize("refusal", [TAKEN, MALFORMED], ids=["already-replaced", "unknown-field"])
async def test_what_the_ca_refuses_because_of_it_is_ordered_once_more_without(
    desk: Desk, refusal: IssuerRefused
) -> None:
    uid = await desk.add(age=AGE)
    old = await desk.version(uid)
    desk.first.script["place_order"] = deque([refusal])
    assert (await desk.renew()).state is OperationState.SUCCEEDED
    assert desk.first.replaced == [make_cert_id(old.chain_pem), None]
    with desk.store.engine.connect() as connection:
        assert len(connection.execute(order_requests.select()).all()) == 2, "each request is counted"


async def test_without_it_there_is_only_one_more_try(desk: Desk) -> None:
    await desk.add(age=AGE)
    desk.first.script["place_order"] = deque([TAKEN, MALFORMED])
    assert (await desk.renew()).state is OperationState.WAITING
    assert len(desk.first.replaced) == 2


async def test_a_limit_is_no_refusal_of_the_predecessor(desk: Desk) -> None:
    await desk.add(age=AGE)
    desk.first.script["place_order"] = deque([LIMITED])
    await desk.renew()
    assert len(desk.first.replaced) == 1


async def test_another_cas_certificate_is_not_named(desk: Desk) -> None:
    await desk.add(age=AGE, issuer="second")
    assert (await desk.renew()).state is OperationState.SUCCEEDED
    assert desk.first.replaced == [None]


# --- the new version ---------------------------------------------------------


async def test_the_new_version_has_a_new_key_and_the_entry_stays_itself(desk: Desk) -> None:
    uid = await desk.add(age=AGE)
    before = await desk.entry(uid)
    await desk.renew()
    first = await desk.version(uid)
    desk.clock.advance(days=3)
    await desk.renew()
    second = await desk.version(uid)
    assert first.facts.public_key_sha256 != second.facts.public_key_sha256
    after = await desk.entry(uid)
    assert (after.uid, after.id, after.identifiers) == (before.uid, before.id, before.identifiers)
    versions = await desk.store.read(lambda tx: tx.entries.list_versions(uid))
    assert [version.id for version in versions] == [second.id, first.id, before.current and before.current.id]


async def test_the_key_is_kept_if_the_settings_say_so(desk: Desk) -> None:
    uid = await desk.add(age=AGE)
    await desk.renew()
    first = await desk.version(uid)
    desk.clock.advance(days=3)
    desk.reuse_key = True
    await desk.renew()
    second = await desk.version(uid)
    assert first.id != second.id
    assert first.facts.public_key_sha256 == second.facts.public_key_sha256
    assert second.sealed_key is not None
    assert desk.keyring.open(second.sealed_key, context=f"version:{second.id}").startswith(b"-----BEGIN")


async def test_what_was_known_of_the_old_version_does_not_renew_the_new_one(desk: Desk) -> None:
    """Its window is over: kept, it would have each successor renewed at once, for ever."""
    uid = await desk.add(age=AGE)
    await desk.renew()
    schedule = await desk.schedule(uid)
    assert (schedule.look_at, schedule.info, schedule.renew_at) == (desk.clock.now(), None, None)
    now = desk.clock.now()
    desk.first.window = (now + timedelta(days=50), now + timedelta(days=52))
    for _ in range(4):
        assert await desk.sweep(after=2 * HOUR) == 0
    assert (await desk.schedule(uid)).renew_at == now + timedelta(days=51)


# --- whose turn --------------------------------------------------------------


async def test_the_second_issuer_takes_over_at_once_and_the_first_has_the_next_turn(desk: Desk) -> None:
    uid = await desk.add(age=AGE)
    desk.first.script["place_order"] = deque([AWAY])
    waiting = await desk.renew()
    assert (waiting.state, waiting.issuer_name) == (OperationState.WAITING, "second")
    assert waiting.next_attempt_at == desk.clock.now()
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "second"
    desk.clock.advance(days=3)
    assert (await desk.renew()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "first"
    assert desk.first.replaced[-1] is None, "the second one made the predecessor"


async def test_when_both_are_away_the_ladder_waits_and_asks_the_first_again(desk: Desk) -> None:
    await desk.add(age=AGE)
    desk.first.script["place_order"], desk.second.script["place_order"] = deque([AWAY] * 2), deque([AWAY])
    await desk.renew()
    waiting = await desk.run_attempt()
    assert (waiting.issuer_name, waiting.next_attempt_at) == ("first", desk.clock.now() + MINUTE)
    assert (await desk.run_attempt()).issuer_name == "second"
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED


async def test_names_that_fail_are_not_taken_to_another_ca(desk: Desk) -> None:
    await desk.add(age=AGE)
    desk.first.script["prove"] = deque([FAILED])
    waiting = await desk.renew()
    assert (waiting.issuer_name, waiting.next_attempt_at) == ("first", desk.clock.now() + MINUTE)
    assert not desk.second.calls


async def test_a_short_wait_is_waited_for_with_the_same_order(desk: Desk) -> None:
    await desk.add(age=AGE)
    desk.first.script["prove"] = deque([limited_for(desk, 2 * MINUTE)])
    waiting = await desk.renew()
    assert waiting.issuer_name == "first"
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert desk.first.count("place_order") == 1
    assert not desk.second.calls


async def test_the_word_of_the_second_ca_does_not_keep_us_from_the_first(desk: Desk) -> None:
    await desk.add(age=AGE)
    desk.first.script["place_order"] = deque([AWAY])
    desk.second.script["place_order"] = deque([limited_for(desk, 48 * HOUR)])
    await desk.renew()
    waiting = await desk.run_attempt()
    assert (waiting.issuer_name, waiting.next_attempt_at) == ("first", desk.clock.now() + MINUTE)
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED


async def test_a_ca_that_said_not_before_is_not_asked_before(desk: Desk) -> None:
    await desk.add(age=AGE)
    until = desk.clock.now() + 48 * HOUR
    desk.first.script["place_order"] = deque([limited_for(desk, 48 * HOUR)])
    desk.second.script["place_order"] = deque([AWAY] * 100)
    operation = await desk.renew()
    while operation.state is OperationState.WAITING:
        before = desk.first.count("place_order")
        operation = await desk.run_attempt()
        if desk.first.count("place_order") > before:
            assert desk.clock.now() >= until
    assert operation.issuer_name == "first"
    assert desk.second.count("place_order") > 3, "it was asked on the ladder's steps meanwhile"


async def test_when_both_said_not_before_the_earlier_one_is_waited_for(desk: Desk) -> None:
    await desk.add(age=AGE)
    desk.first.script["place_order"] = deque([limited_for(desk, 48 * HOUR)])
    second_word = limited_for(desk, 20 * HOUR)
    desk.second.script["place_order"] = deque([second_word])
    await desk.renew()
    waiting = await desk.run_attempt()
    assert (waiting.issuer_name, waiting.next_attempt_at) == ("second", second_word.retry.at)
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert desk.first.count("place_order") == 1


# --- issuers of a configuration, and CAA -------------------------------------

CAA = CAAForbids("CAA forbids.", type="urn:ietf:params:acme:error:caa", detail="CAA forbids")


async def test_a_configuration_has_its_issuers_in_its_own_order(desk: Desk) -> None:
    desk.by_config = {PROD: ("second", "first")}
    uid = await desk.add(age=AGE)
    assert (await desk.renew()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "second"
    assert desk.first.calls.count("place_order") == 0


async def test_a_configurations_next_issuer_takes_over_in_its_own_order(desk: Desk) -> None:
    desk.by_config = {PROD: ("second", "first")}
    uid = await desk.add(age=AGE)
    desk.second.script["place_order"] = deque([AWAY])
    failed = await desk.renew()
    assert (failed.state, failed.issuer_name) == (OperationState.WAITING, "first")
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "first"


async def test_an_issuer_that_a_configuration_does_not_name_never_issues_for_it(desk: Desk) -> None:
    desk.by_config = {PROD: ("second",)}
    await desk.add(age=AGE)
    desk.second.script["place_order"] = deque([AWAY])
    assert (await desk.renew()).issuer_name == "second"
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert desk.first.calls.count("place_order") == 0


async def test_an_entrys_own_issuer_comes_first_among_its_configurations(desk: Desk) -> None:
    desk.by_config = {PROD: ("second", "first")}
    uid = await desk.add(age=AGE)
    await desk.change(issuer="first")
    assert (await desk.renew()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "first"


async def test_an_upload_is_replaced_only_if_its_configurations_issuer_can(desk: Desk) -> None:
    await desk.add(age=timedelta(days=80), source=Source.UPLOADED)
    desk.second.directory = "internal"
    desk.by_config = {PROD: ("second",)}
    assert await desk.sweep() == 0, "the built-in CA replaces nothing by itself"
    desk.by_config = {PROD: ("second", "first")}
    assert await desk.sweep(after=timedelta(days=1)) == 1, "the other one may"


async def test_what_caa_forbids_is_no_order_and_the_next_issuer_tries(desk: Desk) -> None:
    uid = await desk.add(age=AGE)
    desk.first.script["check_names"] = deque([CAA])
    failed = await desk.renew()
    assert (failed.state, failed.issuer_name) == (OperationState.WAITING, "second")
    assert failed.next_attempt_at == desk.clock.now()
    with desk.store.engine.connect() as connection:
        assert connection.execute(order_requests.select()).all() == [], "nothing was counted"
    assert (await desk.run_attempt()).state is OperationState.SUCCEEDED
    assert (await desk.version(uid)).issuer_name == "second"
    assert desk.first.calls.count("place_order") == 0


async def test_what_caa_forbids_to_all_waits_by_the_ladder(desk: Desk) -> None:
    await desk.add(age=AGE)
    for issuer in desk.issuers:
        issuer.script["check_names"] = deque([CAA])
    await desk.renew()
    failed = await desk.run_attempt()
    assert (failed.state, failed.issuer_name) == (OperationState.WAITING, "first")
    assert failed.problem is not None
    assert failed.problem.message == "CAA forbids."
    assert failed.next_attempt_at is not None
    assert failed.next_attempt_at > desk.clock.now()

"""The look at what listeners hold and serve: drift is found, said, and repaired if that is wanted."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from deployment_parts import Lab, fingerprint, make_lab

from certorbit.errors import CredentialsRefused, TargetRefused, Unreachable
from certorbit.ports.target import PlacedTarget
from certorbit.workflows.inventory import Inventory
from certorbit.workflows.proof import Prover
from certorbit.workflows.turns import ScopeTurns
from fakes.clock import FakeChance
from fakes.fake_target import FOREIGN, FakeTarget


@pytest.fixture
async def lab(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Lab]:
    target = FakeTarget()
    made = await make_lab(tmp_path / "lab.db", template=sqlite_template, targets=[target])
    key = target.add_listener("l1")
    await made.add_entry("www")
    await made.attach_for_good("www", key, as_default=True)
    yield made
    await made.store.close()


def inventory(lab: Lab, *, repairs: bool = True) -> Inventory:
    return Inventory(
        store=lab.store,
        targets={t.name: PlacedTarget(target=t, configurations=(), grace_seconds=10.0) for t in lab.targets},
        prover=Prover(prober=lab.prober, clock=lab.clock, chance=FakeChance(0.0)),
        turns=ScopeTurns(store=lab.store, clock=lab.clock, chance=FakeChance(0.0), is_alone=False),
        clock=lab.clock,
        chance=FakeChance(0.0),
        every=timedelta(minutes=5),
        repairs=repairs,
        new_id=lab.new_id,
    )


async def look(lab: Lab, *, repairs: bool = True) -> int:
    lab.clock.advance(minutes=5)
    return await inventory(lab, repairs=repairs).sweep()


async def test_what_is_as_it_should_be_gets_a_new_proof_and_nothing_else(lab: Lab) -> None:
    before = (await lab.attachments("www"))["l1"]
    assert await look(lab) == 0
    after = (await lab.attachments("www"))["l1"]
    assert before.proof is not None
    assert after.proof is not None
    assert after.proof.at > before.proof.at
    assert after.stage == before.stage
    assert len(await lab.operations("www")) == 1


async def test_one_of_several_workers_has_the_turn(lab: Lab) -> None:
    await look(lab)
    probes = lab.prober.probes
    await inventory(lab).sweep()
    assert lab.prober.probes == probes


async def test_a_default_that_somebody_replaced_is_put_back(lab: Lab) -> None:
    (key,) = lab.targets[0].listeners
    lab.targets[0].listeners[key] = replace(lab.targets[0].listeners[key], default=FOREIGN, certificates=())
    assert await look(lab) == 1
    row = (await lab.attachments("www"))["l1"]
    assert row.stage.value == "drifted"
    assert row.problem is not None
    assert "does not hold 'www' any more" in row.problem.message
    await lab.drive()
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("www", 1)
    assert await lab.stages("www") == {"l1": "proven"}


async def test_a_copy_whose_content_somebody_replaced_is_put_back(lab: Lab) -> None:
    (copy,) = lab.targets[0].copies.values()
    copy.chain, good = ("11" * 32,), copy.chain
    assert await look(lab) == 1
    assert (await lab.stages("www")) == {"l1": "drifted"}
    await lab.drive()
    assert lab.targets[0].serve("l1", "")[0] == good[0]


async def test_drift_is_only_shown_if_that_is_wanted(lab: Lab) -> None:
    (copy,) = lab.targets[0].copies.values()
    copy.chain, good = ("11" * 32,), copy.chain
    assert await look(lab, repairs=False) == 1
    await lab.drive()
    assert lab.targets[0].serve("l1", "")[0] == "11" * 32
    row = (await lab.attachments("www"))["l1"]
    assert row.problem is not None
    assert "does not serve 'www' any more" in row.problem.message
    copy.chain = good
    assert await look(lab, repairs=False) == 0
    assert await lab.stages("www") == {"l1": "proven"}, "somebody put it right"


async def test_a_listener_that_is_gone_is_said_and_left_out_of_the_inventory(lab: Lab) -> None:
    lab.targets[0].listeners.clear()
    assert await look(lab, repairs=False) == 1
    row = (await lab.attachments("www"))["l1"]
    assert row.problem is not None
    assert "does not exist any more" in row.problem.message
    assert await lab.store.read(lambda tx: tx.listeners.list()) == []


async def test_a_target_that_refuses_us_changes_nothing_of_what_is_known(lab: Lab) -> None:
    await look(lab)

    def refuse(method: str, _place: str) -> None:
        if method == "discover":
            raise CredentialsRefused("The key is not valid any more.", subject="edge")

    lab.targets[0].before = refuse
    assert await look(lab) == 0
    assert await lab.stages("www") == {"l1": "proven"}
    assert len(await lab.store.read(lambda tx: tx.listeners.list())) == 1


async def test_since_when_and_why_a_target_is_not_seen_is_written_down(lab: Lab) -> None:
    def away(method: str, _place: str) -> None:
        if method == "discover":
            raise Unreachable("Nobody is there.", subject="edge", phase="connect")

    await look(lab)
    seen_at = lab.clock.now()
    lab.targets[0].before = away
    for _ in range(2):
        await look(lab)
        found = (await lab.store.read(lambda tx: tx.listeners.looks()))[lab.targets[0].name]
        assert (found.seen_at, found.unseen_since) == (seen_at, seen_at)
        assert found.problem is not None
        assert found.problem.message == "Nobody is there."
    lab.targets[0].before = lambda *_: None
    await look(lab)
    again = (await lab.store.read(lambda tx: tx.listeners.looks()))[lab.targets[0].name]
    assert (again.seen_at, again.unseen_since, again.problem) == (lab.clock.now(), None, None)


async def test_a_database_that_is_away_says_nothing_of_a_target(lab: Lab) -> None:
    await look(lab)
    before = await lab.store.read(lambda tx: tx.listeners.looks())

    def away(method: str, _place: str) -> None:
        if method == "discover":
            raise Unreachable("The shelf can't be read.", subject="edge", phase="database")

    lab.targets[0].before = away
    with pytest.raises(Unreachable):
        await look(lab)
    assert await lab.store.read(lambda tx: tx.listeners.looks()) == before


async def test_copies_that_could_not_be_removed_are_removed_later(lab: Lab) -> None:
    key = lab.targets[0].add_listener("l2")
    await lab.attach_for_good("www", key)

    def refuse(method: str, _place: str) -> None:
        if method == "remove":
            raise TargetRefused("It is in use.", subject="edge")

    lab.targets[0].before = refuse
    await lab.detach("www", key)
    await lab.drive()
    assert set(lab.targets[0].copies) == {"l1/www", "l2/www"}
    lab.targets[0].before = lambda *_: None
    await look(lab)
    assert set(lab.targets[0].copies) == {"l1/www"}
    assert await lab.store.read(lambda tx: tx.copies.list_doomed(limit=10)) == []


async def test_what_was_never_looked_at_is_asked_for_once(lab: Lab) -> None:
    await lab.store.write(lambda tx: tx.listeners.forget_targets([]))
    one = inventory(lab)
    await one.ensure()
    assert len(await lab.store.read(lambda tx: tx.listeners.list())) == 1
    calls = len(lab.targets[0].calls)
    await one.ensure()
    assert len(lab.targets[0].calls) == calls


async def test_a_target_that_answers_again_is_not_waited_for_any_longer(lab: Lab) -> None:
    def refuse(method: str, _place: str) -> None:
        raise Unreachable("No answer.", subject="edge", phase="connect")

    lab.targets[0].before = refuse
    await lab.renew("www", 2)
    await lab.drive()
    assert await lab.stages("www") == {"l1": "failed"}
    assert await look(lab) == 0
    await lab.drive()
    assert await lab.stages("www") == {"l1": "failed"}, "it does not answer yet"
    lab.targets[0].before = lambda *_: None
    await look(lab)
    await lab.drive()
    assert await lab.stages("www") == {"l1": "proven"}
    assert lab.targets[0].serve("l1", "")[0] == fingerprint("www", 2)

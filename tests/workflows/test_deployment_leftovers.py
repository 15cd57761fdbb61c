"""What a deployment must not leave behind, and what it must not take away: copies, promises, others' turns."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from deployment_parts import PROD, Lab, fingerprint, make_lab

from certorbit.errors import Refused
from certorbit.model.entry import ConfigID, EntryID, EntryUID
from certorbit.model.operation import OperationState
from certorbit.ports.target import PlacedTarget
from certorbit.workflows.deployment import remove_doomed
from certorbit.workflows.turns import ScopeTurns
from fakes.clock import FakeChance
from fakes.fake_target import FakeTarget


@pytest.fixture(params=[False, True], ids=["own", "shared"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Lab]:
    target = FakeTarget(shared=request.param)
    made = await make_lab(tmp_path / "lab.db", template=sqlite_template, targets=[target])
    yield made
    await made.store.close()


@pytest.mark.parametrize("as_default", [False, True])
async def test_a_refused_attachment_leaves_no_copy_with_its_key(lab: Lab, *, as_default: bool) -> None:
    key = lab.targets[0].add_listener("l1")
    await lab.add_entry("www")
    lab.prober.bad_leaves = {("l1", fingerprint("www", 1))}
    asked = await lab.attach("www", key, as_default=as_default)
    await lab.drive()
    with pytest.raises(Refused, match="does not serve 'www'"):
        await lab.settle(asked)
    assert await lab.attachments("www") == {}
    assert not [handle for handle in lab.targets[0].copies if "www" in handle]
    assert await lab.store.read(lambda tx: tx.copies.list_of_entry(EntryUID("uid-www"))) == []


async def test_what_was_never_issued_is_detached_at_once(lab: Lab) -> None:
    key = lab.targets[0].add_listener("l1")
    entry = await lab.add_entry("www")
    later = replace(entry, uid=EntryUID("uid-later"), id=EntryID("later"), input_digest="later", current=None)
    await lab.store.write(lambda tx: tx.entries.add(later))
    asked = await lab.attach("later", key)
    assert asked.operation is None
    await lab.settle(asked)
    gone = await lab.detach("later", key)
    assert gone is not None
    assert gone.operation is None
    await lab.settle(gone)
    assert await lab.attachments("later") == {}
    assert lab.jobs == {}
    # The history has both wishes.
    versions = await lab.store.read(lambda tx: tx.configurations.find(PROD))
    assert versions is not None
    assert versions.version == 3


async def test_a_copy_that_is_put_to_use_again_is_not_removed(lab: Lab) -> None:
    key = lab.targets[0].add_listener("l1")
    await lab.add_entry("www")
    await lab.attach_for_good("www", key)
    (copy,) = await lab.store.read(lambda tx: tx.copies.list_of_entry(EntryUID("uid-www")))
    turns = ScopeTurns(store=lab.store, clock=lab.clock, chance=FakeChance(0.0), is_alone=False)
    targets = {lab.targets[0].name: PlacedTarget(target=lab.targets[0], configurations=(), grace_seconds=1.0)}
    lab.targets[0].calls.clear()
    # The list was read while nobody used the copy; by now somebody does.
    stale = replace(copy, is_doomed=True)
    assert await remove_doomed(turns, targets, [stale], holder="look") == 0
    assert lab.targets[0].calls == []
    assert copy.handle in lab.targets[0].copies


async def test_detaching_and_removing_wait_for_who_changes_the_same_scope(lab: Lab) -> None:
    key = lab.targets[0].add_listener("l1")
    await lab.add_entry("www")
    await lab.attach_for_good("www", key)
    name = ConfigID(f"target:{key.target}/{lab.targets[0].scope_of(key)}")
    now = lab.clock.now()
    free_at = now + timedelta(seconds=30)
    taken = await lab.store.write(lambda tx: tx.named_turns.take(name, "another worker", now=now, until=free_at))
    assert taken
    calls: list[tuple[str, datetime]] = []
    lab.targets[0].before = lambda method, _place: calls.append((method, lab.clock.now()))
    asked = await lab.detach("www", key)
    await lab.drive()
    assert asked is not None
    await lab.settle(asked)
    changes = [(method, at) for method, at in calls if method in {"detach", "remove"}]
    assert [method for method, _ in changes] == ["detach", "remove"]
    assert all(at >= free_at for _, at in changes), "it didn't wait"
    assert not await lab.store.read(lambda tx: tx.named_turns.is_taken(name, now=lab.clock.now())), "it kept the turn"


async def test_versions_that_come_while_it_runs_do_not_make_the_next_wait_longer(lab: Lab) -> None:
    key = lab.targets[0].add_listener("l1")
    await lab.add_entry("www")
    await lab.attach_for_good("www", key)
    await lab.renew("www", 2)
    (_, job) = lab.jobs.values()
    for number in (3, 4, 5):  # each begins another attempt of the same deployment
        operation = await lab.store.read(lambda tx: tx.operations.find(job.operation))
        assert operation is not None
        waiting = replace(operation, state=OperationState.WAITING)
        await lab.store.write(lambda tx, waiting=waiting: tx.operations.update(waiting))
        await lab.renew("www", number)
    lab.prober.bad_leaves = {("l1", fingerprint("www", 5))}
    await lab.drive()
    operation = (await lab.operations("www"))[-1]
    assert (operation.state, operation.attempt) == (OperationState.WAITING, 5)
    assert operation.next_attempt_at is not None
    assert operation.next_attempt_at - operation.updated_at == timedelta(minutes=1)

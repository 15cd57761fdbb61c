"""The deployment workflow dies at every place where a process can die, and another process goes on.

A place is before or after a transaction, a call to the target, and a checkpoint. After each death everything that was
written or changed before is there, nothing else.
"""

from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from deployment_parts import Lab, fingerprint, make_lab
from issuance_parts import Death

from certorbit.model.operation import OperationState
from fakes.fake_target import FakeTarget
from fakes.memory_keyring import MemoryKeyring
from places import choose_places

LEAST_PLACES = 25  # fewer would mean that the deaths are not where they should be


async def roll_out(lab: Lab) -> None:
    await lab.renew("www", 2)


async def roll_out_a_bad_one(lab: Lab) -> None:
    lab.prober.bad_leaves = {("l2", fingerprint("www", 2))}
    await lab.renew("www", 2)


async def detach(lab: Lab) -> None:
    await lab.detach("www", sorted(lab.targets[0].listeners)[1])


async def take_over(lab: Lab) -> None:
    await lab.take_over("www", "new")


@dataclass(frozen=True)
class Story:
    """What is begun, and the names' fingerprints that each listener serves at the end ("": nothing of ours)."""

    begin: Callable[[Lab], Awaitable[None]]
    name: str
    ends: tuple[str, ...]
    state: OperationState = OperationState.SUCCEEDED


V1, V2, NEW = fingerprint("www", 1), fingerprint("www", 2), fingerprint("new", 1)
STORIES = [
    pytest.param(Story(roll_out, "www", (V2, V2, V2)), id="roll-out"),
    pytest.param(Story(roll_out_a_bad_one, "www", (V2, V1, V1), OperationState.WAITING), id="not-served"),
    pytest.param(Story(detach, "www", (V1, "", V1)), id="detach"),
    pytest.param(Story(take_over, "new", (NEW, NEW, NEW)), id="take-over"),
]


class Labs:
    """Makes labs, each on a new database: `www` is on three listeners, the first has it as its default.

    What comes before the story is the same in all of them, so it is done once and copied.
    """

    def __init__(self, folder: Path, template: Path, *, in_place: bool) -> None:
        self.in_place = in_place
        self._folder = folder
        self._template = template
        self._numbers = count()
        self._prepared: FakeTarget | None = None
        self._keyring = MemoryKeyring()

    async def play(self, story: Story, *deaths: int) -> Lab:
        prepared = self._folder / "prepared.db"
        if self._prepared is None:
            self._prepared = await self._prepare(prepared)
        path = self._folder / f"lab{next(self._numbers)}.db"
        target = deepcopy(self._prepared)
        lab = await make_lab(path, template=prepared, targets=[target], is_new=False)
        lab.keyring = self._keyring
        lab.death = lab.mortal_store.death = Death(*deaths)
        target.before = target.after = lambda _method, _place: lab.death.pass_by()
        lab.clock.advance(hours=1)  # the newest operation is the one of the story
        await story.begin(lab)
        await lab.drive()
        await assert_end(lab, story, what=f"deaths at {deaths}")
        await lab.store.close()
        path.unlink()
        return lab

    async def _prepare(self, path: Path) -> FakeTarget:
        target = FakeTarget(in_place=self.in_place)
        keys = [target.add_listener(f"l{number}") for number in (1, 2, 3)]
        lab = await make_lab(path, template=self._template, targets=[target])
        lab.keyring = self._keyring
        for name in ("www", "new"):
            await lab.add_entry(name)
        await lab.attach_for_good("www", keys[0], as_default=True)
        await lab.attach_for_good("www", *keys[1:])
        await lab.store.close()
        return target


async def assert_end(lab: Lab, story: Story, *, what: str) -> None:
    target = lab.targets[0]
    ours = {V1, V2, NEW}
    served = [target.serve(f"l{number}", f"{story.name}.example.com")[0] for number in (1, 2, 3)]
    assert tuple(leaf if leaf in ours else "" for leaf in served) == story.ends, what
    operation = (await lab.operations(story.name))[-1]
    assert operation.state is story.state, what
    # What is written down is what is so.
    for listener, row in (await lab.attachments(story.name)).items():
        assert target.listeners[row.listener].holds(row.handle), what
        if row.stage.value == "proven":
            version = target.copies[row.handle].version
            assert row.version == version, f"{what}: {listener} has another version than its record"
    copies = {copy.handle: copy.version for copy in await lab.store.read(lambda tx: tx.copies.list())}
    if story.state is OperationState.SUCCEEDED:
        assert copies == {handle: copy.version for handle, copy in target.copies.items()}, what
        assert await lab.store.read(lambda tx: tx.copies.list_doomed(limit=10)) == [], what
    for job in lab.jobs.values():
        assert len(set(lab.steps(job.workflow_id))) == len(lab.steps(job.workflow_id)), what


@pytest.fixture(params=[pytest.param(True, id="in-place"), pytest.param(False, id="immutable")])
def labs(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Labs:
    return Labs(tmp_path, sqlite_template, in_place=request.param)


@pytest.mark.parametrize("story", STORIES)
async def test_one_death_at_any_place_changes_nothing_of_the_end(labs: Labs, story: Story) -> None:
    places = (await labs.play(story)).death.places
    assert places >= LEAST_PLACES
    # Other places with each kind of target: they are the same ones, but for what the target does in them.
    for place in choose_places(places, one_in=6, offset=0 if labs.in_place else 3):
        lab = await labs.play(story, place)
        assert lab.death.deaths == 1


@pytest.mark.parametrize("story", STORIES)
async def test_dying_over_and_over_comes_to_an_end(labs: Labs, story: Story) -> None:
    """So many places lie between two deaths: enough for the longest step, so that each process gets one further."""
    lab = await labs.play(story, *range(20, 3000, 65))
    assert lab.death.deaths > 0

"""The issuance workflow dies at every place where a process can die, and another process goes on.

A place is before or after a transaction, a request to the CA, and a checkpoint. After each death everything that was
written or asked before is there, nothing else.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from issuance_parts import Death, Lab, make_lab

from certorbit.errors import IssuerRefused, Unreachable
from certorbit.model.operation import OperationState
from certorbit.services import promises
from fakes.fake_chains import ChainMaker, make_csr
from places import choose_places

NAMES = ("www.example.com",)
LEAST_PLACES = 15  # fewer would mean that the deaths are not where they should be


async def promise(lab: Lab) -> None:
    await lab.store.write(lambda tx: promises.promise(tx, lab.operation_id, now=lab.clock.now()))


async def prepare_success(lab: Lab) -> None:
    """Nothing goes wrong but the deaths."""


async def prepare_refusal(lab: Lab) -> None:
    lab.issuer.faults["prove"] = _refusal()


async def prepare_promised_refusal(lab: Lab) -> None:
    await promise(lab)
    lab.issuer.faults["prove"] = _refusal()


async def prepare_outage(lab: Lab) -> None:
    lab.issuer.faults["finalise"] = Unreachable("No answer.", subject="ca.example", phase="read")


async def prepare_lost_answer(lab: Lab) -> None:
    lab.issuer.afterwards["place_order"] = Unreachable("No answer.", subject="ca.example", phase="read")


async def prepare_bad_issue(lab: Lab) -> None:
    maker, odd = ChainMaker("Odd"), make_csr("other.example.com")
    lab.issuer.chain_for = lambda csr_der: maker.issue(odd if lab.issuer.attempt == 1 else csr_der)


@dataclass(frozen=True)
class Story:
    """What goes wrong beside the deaths, and how it ends.

    attempts: how many it takes; several numbers where a death may spare one. orders: how many the ledger has.
    """

    prepare: Callable[[Lab], Awaitable[None]]
    ends: OperationState = OperationState.SUCCEEDED
    attempts: tuple[int, ...] = (1,)
    orders: int = 1


STORIES = [
    pytest.param(Story(prepare_success), id="success"),
    pytest.param(Story(prepare_refusal, ends=OperationState.FAILED), id="refusal"),
    pytest.param(Story(prepare_promised_refusal, attempts=(2,), orders=2), id="promised-refusal"),
    pytest.param(Story(prepare_outage, attempts=(2,)), id="outage"),
    pytest.param(Story(prepare_lost_answer, attempts=(1, 2)), id="lost-answer"),
    pytest.param(Story(prepare_bad_issue, attempts=(2,), orders=2), id="bad-issue"),
]


class Labs:
    """Makes labs, each on a new database."""

    def __init__(self, folder: Path, template: Path) -> None:
        self._folder = folder
        self._template = template
        self._numbers = count()

    async def play(self, story: Story, *deaths: int, has_order_list: bool = True) -> Lab:
        """Play the story to its end, with these deaths in it, and check what always holds."""
        path = self._folder / f"lab{next(self._numbers)}.db"
        lab = await make_lab(path, template=self._template, death=Death(*deaths), names=NAMES)
        lab.issuer.has_order_list = has_order_list
        await story.prepare(lab)
        await lab.drive()
        await assert_end(lab, story, what=f"deaths at {deaths}")
        await lab.store.close()
        path.unlink()
        return lab


async def assert_end(lab: Lab, story: Story, *, what: str) -> None:
    operation, entry, rows = await lab.operation(), await lab.entry(), lab.count_rows()
    assert operation.state is story.ends, what
    assert operation.attempt in story.attempts, what
    assert operation.finished_at is not None, what
    assert rows["keys"] == 0, f"{what}: an order's key outlives its use"
    assert rows["orders"] == story.orders, what
    assert rows["requests"] >= lab.issuer.count("place_order"), f"{what}: an order that was not counted"
    if story.ends is OperationState.SUCCEEDED:
        assert rows["versions"] == 1, what
        assert entry is not None, what
        assert entry.current is not None, what
        assert entry.current.sealed_key is not None, what
        lab.keyring.open(entry.current.sealed_key, context=f"version:{entry.current.id}")
        assert lab.steps(operation.attempt)[-1] == ("store", "done"), what
    else:
        assert (rows["versions"], entry) == (0, None), what
        assert lab.steps(operation.attempt)[-1] == ("conclude", "done"), what
    assert set(lab.jobs) == {f"{lab.operation_id}.{attempt}" for attempt in range(1, operation.attempt + 1)}, what


@pytest.fixture
def labs(tmp_path: Path, sqlite_template: Path) -> Labs:
    return Labs(tmp_path, sqlite_template)


@pytest.mark.parametrize("story", STORIES)
async def test_one_death_at_any_place_changes_nothing_of_the_end(labs: Labs, story: Story) -> None:
    places = (await labs.play(story)).death.places
    assert places >= LEAST_PLACES
    for place in choose_places(places, one_in=3, offset=places):
        lab = await labs.play(story, place)
        assert lab.death.deaths == 1
        assert lab.issuer.count("place_order") <= story.orders, f"death at {place}: the CA had the order already"


@pytest.mark.parametrize("story", STORIES)
async def test_a_ca_without_a_list_of_orders_is_asked_again_and_that_is_counted(labs: Labs, story: Story) -> None:
    most = 0
    for place in range(1, (await labs.play(story, has_order_list=False)).death.places + 1):
        lab = await labs.play(story, place, has_order_list=False)
        most = max(most, lab.issuer.count("place_order"))
    assert most > story.orders, "one of the deaths came between the order and its record"


async def test_a_second_death_in_the_recovery_changes_nothing_either(labs: Labs) -> None:
    story = Story(prepare_success)
    places = (await labs.play(story)).death.places
    for place in choose_places(places, one_in=3):
        for more in range(1, 7):
            lab = await labs.play(story, place, place + more)
            assert lab.issuer.count("place_order") == 1


async def test_dying_over_and_over_comes_to_an_end(labs: Labs) -> None:
    """Twelve places lie between two deaths: enough for the longest step, so that each process gets one further."""
    lab = await labs.play(Story(prepare_success), *range(12, 400, 12))
    assert lab.death.deaths > 0


def _refusal() -> IssuerRefused:
    return IssuerRefused("The CA refused.", type="urn:ietf:params:acme:error:dns", detail="no such host")

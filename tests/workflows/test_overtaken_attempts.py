"""An attempt whose place another one took never runs, whenever its workflow begins, and nobody counts it."""

from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from issuance_parts import Death, Died, DirectFlow
from renewal_desk import Desk

from certorbit.errors import Unreachable
from certorbit.model.operation import Operation, OperationState
from certorbit.ports.store import Job
from certorbit.services import renewals

AGE = timedelta(days=61)  # of 90: due


@pytest.fixture
async def desk(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "desk.db", template=sqlite_template)
    await made.open()
    made.issuers = [made.first]
    yield made
    await made.store.close()


def let_fail(desk: Desk, times: int = 1) -> None:
    away = [Unreachable("The CA is away.", subject="ca", phase="connect") for _ in range(times)]
    desk.first.script["place_order"] = deque([*away])


async def retry(desk: Desk, operation: Operation) -> Operation:
    return await desk.store.write(
        lambda tx: renewals.retry_operation(tx, operation.id, issuers=desk.config_issuers(), now=desk.clock.now())
    )


async def begin(desk: Desk, job: Job, death: Death | None = None) -> None:
    await desk.issuance().run(DirectFlow([], death or Death()), job.operation, job.attempt)


async def overtake(desk: Desk) -> tuple[Job, Job]:
    """Let an attempt fail and its successor be overtaken. Returns: the job that was overtaken, and the one that did."""
    await desk.add(age=AGE)
    await desk.sweep()
    let_fail(desk)
    waiting = await desk.run_attempt()
    assert (waiting.state, waiting.attempts_begun) == (OperationState.WAITING, 1)
    await retry(desk, waiting)
    overtaken, present = desk.jobs
    assert (overtaken.workflow_id, present.workflow_id) == (f"{waiting.id}.2", f"{waiting.id}.3")
    return overtaken, present


@pytest.mark.parametrize("is_first", [True, False], ids=["it-begins-first", "it-begins-last"])
async def test_an_overtaken_attempt_asks_the_ca_for_nothing(desk: Desk, *, is_first: bool) -> None:
    overtaken, present = await overtake(desk)
    calls = list(desk.first.calls)
    if is_first:
        await begin(desk, overtaken)
        assert desk.first.calls.count("place_order") == calls.count("place_order")
        await begin(desk, present)
    else:
        await begin(desk, present)
        calls = list(desk.first.calls)
        await begin(desk, overtaken)
        assert desk.first.calls.count("place_order") == calls.count("place_order")
    (operation,) = await desk.operations()
    assert (operation.state, operation.attempts_begun) == (OperationState.SUCCEEDED, 2)


async def test_a_death_in_the_attempt_that_overtook_changes_no_count(desk: Desk) -> None:
    overtaken, present = await overtake(desk)
    recorded: list[tuple[str, str]] = []
    with pytest.raises(Died):
        await desk.issuance().run(DirectFlow(recorded, Death(2)), present.operation, present.attempt)
    await begin(desk, overtaken)
    await desk.issuance().run(DirectFlow(recorded, Death()), present.operation, present.attempt)
    (operation,) = await desk.operations()
    assert (operation.state, operation.attempts_begun, operation.overtaken) == (OperationState.SUCCEEDED, 2, (2,))
    assert desk.first.calls.count("place_order") == 2, "one for each attempt that people count"


async def test_an_overtaken_attempt_is_no_rung_of_the_ladder(desk: Desk) -> None:
    _, present = await overtake(desk)
    let_fail(desk)
    now = desk.clock.now()
    await begin(desk, present)
    (operation,) = await desk.operations()
    assert (operation.state, operation.attempts_begun) == (OperationState.WAITING, 2)
    assert operation.next_attempt_at == now + timedelta(minutes=10), "the second rung, not the third"

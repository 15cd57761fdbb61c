"""Issuances and deployments in one engine: each kind has its workflow, its queue and its slots."""

import asyncio
from typing import Any

import pytest
from engine_parts import PATIENCE, enqueue, job, make_engine, statuses, working

from certorbit.clock import SystemClock
from certorbit.model.operation import OperationID
from certorbit.ports.store import JobKind
from certorbit.workflows.engine import Flow, Run

OTHER = {JobKind.ISSUE: JobKind.DEPLOY, JobKind.DEPLOY: JobKind.ISSUE}
PARAMETER = {JobKind.ISSUE: "run", JobKind.DEPLOY: "deploy"}

both_kinds = pytest.mark.parametrize("kind", list(JobKind))


class Body:
    """A workflow of one step. until: what the step waits for."""

    def __init__(self, *, expected: int = 1, until: asyncio.Event | None = None) -> None:
        self.ran: list[str] = []
        self.most = 0
        self.begun = asyncio.Event()
        self.all_ended = asyncio.Event()
        self._expected = expected
        self._until = until
        self._running = 0
        self._ended = 0

    async def __call__(self, flow: Flow, operation: OperationID, attempt: int) -> None:
        await flow.step("only", lambda: self._step(operation))
        self._ended += 1
        if self._ended == self._expected:
            self.all_ended.set()

    async def _step(self, operation: OperationID) -> dict[str, object]:
        self.ran.append(operation)
        self._running += 1
        self.most = max(self.most, self._running)
        self.begun.set()
        if self._until is not None:
            await self._until.wait()
        else:
            await SystemClock().sleep(0.005)  # so that others would have the time to overlap
        self._running -= 1
        return {}


def bodies(kind: JobKind, body: Run, other: Run | None = None) -> dict[str, Any]:
    """Return the arguments of `make_engine` for a worker with this body, and one for the other kind."""
    return {PARAMETER[kind]: body, PARAMETER[OTHER[kind]]: other}


async def test_each_kind_of_job_runs_its_own_workflow(empty_database_url: str) -> None:
    issue, deploy = Body(), Body()
    engine = make_engine(empty_database_url, run=issue, deploy=deploy)
    enqueue(engine, empty_database_url, job("certificate"), job("rollout", kind=JobKind.DEPLOY))
    async with working(engine), asyncio.timeout(PATIENCE):
        await issue.all_ended.wait()
        await deploy.all_ended.wait()
    assert (issue.ran, deploy.ran) == (["certificate"], ["rollout"])
    assert statuses(empty_database_url) == {"certificate.1": "SUCCESS", "rollout.1": "SUCCESS"}


@both_kinds
async def test_a_kind_that_has_all_its_slots_taken_holds_up_nothing_of_the_other(
    empty_database_url: str, kind: JobKind
) -> None:
    other = Body(expected=5)
    stuck = Body(expected=2, until=other.all_ended)
    engine = make_engine(empty_database_url, max_in_flight=1, deployments_in_flight=1, **bodies(kind, stuck, other))
    enqueue(engine, empty_database_url, job("stuck", kind=kind), job("behind it", kind=kind))
    async with working(engine), asyncio.timeout(PATIENCE):
        await stuck.begun.wait()
        enqueue(engine, empty_database_url, *(job(f"op{number}", kind=OTHER[kind]) for number in range(5)))
        await stuck.all_ended.wait()
    assert len(other.ran) == 5
    assert (stuck.most, other.most) == (1, 1)


async def test_no_more_deployments_run_at_once_than_allowed(empty_database_url: str) -> None:
    deploy = Body(expected=12)
    engine = make_engine(empty_database_url, deploy=deploy, max_in_flight=100, deployments_in_flight=3)
    enqueue(engine, empty_database_url, *(job(f"op{number}", kind=JobKind.DEPLOY) for number in range(12)))
    async with working(engine), asyncio.timeout(PATIENCE):
        await deploy.all_ended.wait()
    assert 1 < deploy.most <= 3


@both_kinds
async def test_a_worker_leaves_work_that_it_does_not_know_to_others(empty_database_url: str, kind: JobKind) -> None:
    knows_both = make_engine(empty_database_url, run=Body(), deploy=Body())
    async with working(knows_both):
        pass  # it has declared both queues
    own = Body(expected=10)
    engine = make_engine(empty_database_url, max_in_flight=1, deployments_in_flight=1, **bodies(kind, own))
    enqueue(engine, empty_database_url, job("unknown", kind=OTHER[kind], priority=1))
    enqueue(engine, empty_database_url, *(job(f"op{number}", kind=kind) for number in range(10)))
    async with working(engine), asyncio.timeout(PATIENCE):
        await own.all_ended.wait()  # ten polls of one queue: time enough for some of the other
        assert statuses(empty_database_url)["unknown.1"] == "ENQUEUED"

    body = Body()
    engine = make_engine(empty_database_url, **bodies(OTHER[kind], body))
    async with working(engine), asyncio.timeout(PATIENCE):
        await body.all_ended.wait()
    assert body.ran == ["unknown"]


@both_kinds
async def test_an_interrupted_workflow_of_either_kind_goes_on_at_the_next_start(
    empty_database_url: str, kind: JobKind
) -> None:
    never = asyncio.Event()
    hanging = Body(until=never)
    engine = make_engine(empty_database_url, **bodies(kind, hanging))
    enqueue(engine, empty_database_url, job("op", kind=kind))
    async with working(engine, drain_seconds=0.0), asyncio.timeout(PATIENCE):
        await hanging.begun.wait()
    assert statuses(empty_database_url) == {"op.1": "ENQUEUED"}

    body = Body()
    engine = make_engine(empty_database_url, **bodies(kind, body))
    async with working(engine), asyncio.timeout(PATIENCE):
        await body.all_ended.wait()
    assert body.ran == ["op"]
    assert statuses(empty_database_url) == {"op.1": "SUCCESS"}

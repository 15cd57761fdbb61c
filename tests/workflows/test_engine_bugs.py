"""Bugs in workflow bodies: never silent, never twice as something else, no key material in the log."""

import asyncio
from typing import Any

import pytest
import structlog
from engine_parts import PATIENCE, Bugs, enqueue, job, list_steps, make_engine, statuses, working

from certorbit.errors import Unreachable
from certorbit.model.operation import OperationID
from certorbit.workflows.engine import Flow, Run

SECRET = "-----BEGIN PRIVATE KEY-----MC4CAQAwBQYDK2VwBCIEIA"


async def break_in_step(flow: Flow, operation: OperationID, attempt: int) -> None:
    async def do() -> dict[str, object]:
        raise KeyError(SECRET)

    await flow.step("breaks", do)


async def break_outside_of_steps(flow: Flow, operation: OperationID, attempt: int) -> None:
    raise ValueError(SECRET)


async def let_an_error_cross_a_checkpoint(flow: Flow, operation: OperationID, attempt: int) -> None:
    async def do() -> dict[str, object]:
        raise Unreachable("nobody there", subject="host", phase="connect")

    await flow.step("breaks", do)


async def return_no_json(flow: Flow, operation: OperationID, attempt: int) -> None:
    async def do() -> dict[str, object]:
        return {"secret": object()}

    await flow.step("breaks", do)


async def return_no_object(flow: Flow, operation: OperationID, attempt: int) -> None:
    async def do() -> dict[str, object]:
        return [SECRET]  # type: ignore[return-value]

    await flow.step("breaks", do)


@pytest.mark.parametrize(
    "body",
    [break_in_step, break_outside_of_steps, let_an_error_cross_a_checkpoint, return_no_json, return_no_object],
)
async def test_a_bug_is_told_to_the_hook_and_ends_the_workflow(sqlite_url: str, body: Run) -> None:
    bugs = Bugs()
    with structlog.testing.capture_logs() as logs:
        engine = make_engine(sqlite_url, run=body, bugs=bugs)
        enqueue(engine, sqlite_url, job("op", attempt=7))
        async with working(engine), asyncio.timeout(PATIENCE):
            await bugs.is_told.wait()
    broken = [entry for entry in logs if entry["event"] == "workflow.broken"]
    assert len(broken) == 1
    assert bugs.told == [("op", 7, broken[0]["error_id"])]
    assert any("test_engine_bugs.py" in frame or "engine.py" in frame for frame in broken[0]["frames"])
    assert "PRIVATE" not in repr(logs)
    assert statuses(sqlite_url) == {"op.7": "SUCCESS"}


async def test_a_hook_that_fails_is_asked_again(empty_database_url: str) -> None:
    bugs = Bugs(failures=1)
    engine = make_engine(empty_database_url, run=break_in_step, bugs=bugs)
    enqueue(engine, empty_database_url, job("op"))
    async with working(engine), asyncio.timeout(PATIENCE):
        await bugs.is_told.wait()
    assert len(bugs.told) == 1
    assert statuses(empty_database_url) == {"op.1": "SUCCESS"}


async def test_a_broken_step_stays_broken_after_a_restart(empty_database_url: str) -> None:
    """The hook never worked before the worker stopped; the next one tells it of the same bug without a new run."""
    ran: list[str] = []

    async def body(flow: Flow, operation: OperationID, attempt: int) -> None:
        async def do() -> dict[str, object]:
            ran.append("breaks")
            raise ZeroDivisionError

        await flow.step("breaks", do)

    class Never(Bugs):
        async def __call__(self, operation: OperationID, attempt: int, error_id: str) -> None:
            self.told.append((operation, attempt, error_id))
            self.is_told.set()
            await asyncio.Event().wait()

    never, bugs = Never(), Bugs()
    engine = make_engine(empty_database_url, run=body, bugs=never)
    enqueue(engine, empty_database_url, job("op"))
    async with working(engine, drain_seconds=0.0), asyncio.timeout(PATIENCE):
        await never.is_told.wait()
    engine = make_engine(empty_database_url, run=body, bugs=bugs)
    async with working(engine), asyncio.timeout(PATIENCE):
        await bugs.is_told.wait()
    assert bugs.told == never.told
    assert ran == ["breaks"]


async def test_changed_steps_are_found_out(empty_database_url: str) -> None:
    names = ["old_name"]
    begun = asyncio.Event()
    bugs = Bugs()

    async def body(flow: Flow, operation: OperationID, attempt: int) -> None:
        async def do() -> dict[str, object]:
            return {}

        async def hang() -> dict[str, object]:
            begun.set()
            await asyncio.Event().wait()
            return {}

        await flow.step(names[0], do)
        await flow.step("hangs", hang)

    engine = make_engine(empty_database_url, run=body)
    enqueue(engine, empty_database_url, job("op"))
    async with working(engine, drain_seconds=0.0), asyncio.timeout(PATIENCE):
        await begun.wait()
    names[0] = "new_name"
    logs: list[Any]
    with structlog.testing.capture_logs() as logs:
        engine = make_engine(empty_database_url, run=body, bugs=bugs)
        async with working(engine), asyncio.timeout(PATIENCE):
            await bugs.is_told.wait()
    assert any("'old_name', and is 'new_name' now" in entry.get("message", "") for entry in logs)


async def test_an_error_while_the_engine_stops_is_not_judged(empty_database_url: str) -> None:
    """What a workflow needs may be closed before it is: that is no bug, and it runs again at the next start."""
    begun = asyncio.Event()
    bugs = Bugs()

    async def body(flow: Flow, operation: OperationID, attempt: int) -> None:
        async def do() -> dict[str, object]:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise RuntimeError("session is closed") from None
            return {}

        await flow.step("hangs", do)

    engine = make_engine(empty_database_url, run=body, bugs=bugs)
    enqueue(engine, empty_database_url, job("op"))
    async with working(engine, drain_seconds=0.0), asyncio.timeout(PATIENCE):
        await begun.wait()
    assert bugs.told == []
    assert statuses(empty_database_url) == {"op.1": "ENQUEUED"}
    assert await list_steps(empty_database_url, "op") == []

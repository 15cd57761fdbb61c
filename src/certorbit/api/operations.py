"""Operations: what runs, what failed and why, in the CA's own words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query
from starlette.responses import Response

from certorbit.api import renewal_schemas, schemas
from certorbit.api.answers import JSONAnswer, format_instant, format_optional
from certorbit.api.authentication import ReaderOfOwn, WriterOfOwn
from certorbit.api.documentation import answers_json
from certorbit.api.parts import Parts
from certorbit.api.reading import LONGEST_CONFIG, IDPath
from certorbit.api.routes import RouteAdder
from certorbit.model.access import Principal
from certorbit.model.entry import ENTRY_ID_PATTERN, ConfigID, EntryID
from certorbit.model.operation import Operation, OperationID, OperationState, Problem, Step
from certorbit.ports.store import UnitOfWork
from certorbit.services import operations, renewals

PREFIX = "/api/certorbit/v1"
_NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"


@dataclass(frozen=True, slots=True)
class OperationRoutes:
    """The endpoints."""

    parts: Parts

    async def list_operations(
        self,
        caller: ReaderOfOwn,
        limit: Annotated[int, Query(ge=1, le=operations.MOST_PER_PAGE)] = 100,
        cursor: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_=-]*$", max_length=400)] = None,
        config: Annotated[str | None, Query(pattern=_NO_CONTROLS, max_length=LONGEST_CONFIG)] = None,
        entry: Annotated[str | None, Query(pattern=ENTRY_ID_PATTERN)] = None,
        state: Annotated[OperationState | None, Query()] = None,
    ) -> Response:
        """Get operations, newest first, a page at a time"""
        items, next_cursor, total = await self.parts.store.read(
            lambda tx: operations.list_operations(
                tx,
                config=reachable_configurations(caller, config),
                entry=None if entry is None else EntryID(entry),
                state=state,
                cursor=cursor,
                limit=limit,
            )
        )
        return JSONAnswer(
            {
                "total": total,
                "items": [render_operation(operation) for operation in items],
                "next_cursor": next_cursor,
            }
        )

    async def get_operation(self, operation_id: IDPath, caller: ReaderOfOwn) -> Response:
        """Get one operation with its steps"""
        operation = await self.parts.store.read(lambda tx: _get_reachable(tx, operation_id, caller))
        steps = await self.parts.steps.list_steps(operation.id, attempts=operation.attempt)
        return JSONAnswer({**render_operation(operation), "steps": _render_steps(operation, steps)})

    async def retry_operation(self, operation_id: IDPath, caller: WriterOfOwn) -> Response:
        """Start the next attempt of an operation that waits now"""
        now = self.parts.clock.now()

        def retry(tx: UnitOfWork) -> Operation:
            operation = _get_reachable(tx, operation_id, caller)
            return renewals.retry_operation(
                tx,
                operation.id,
                issuers=self.parts.config_issuers(operation.config),
                now=now,
            )

        operation = await self.parts.store.write(retry)
        return JSONAnswer({"operation": operation.id}, status_code=202)

    async def cancel_operation(self, operation_id: IDPath, caller: WriterOfOwn) -> Response:
        """Give an unfinished operation up; a first issuance takes its certificate's entry with it"""
        now = self.parts.clock.now()

        def cancel(tx: UnitOfWork) -> renewals.Cancelled:
            operation = _get_reachable(tx, operation_id, caller)
            return renewals.cancel_operation(tx, operation.id, by=caller.name, now=now)

        cancelled = await self.parts.store.write(cancel)
        operation = cancelled.operation
        rest = (
            f"there is no certificate {operation.entry_id!r} any more."
            if cancelled.entry_is_gone
            else f"the certificate {operation.entry_id!r} stays as it is. If it renews automatically, that begins anew"
            " within six hours unless you pause it."
        )
        return JSONAnswer(
            {
                "operation": operation.id,
                "state": operation.state.value,
                "entry_deleted": cancelled.entry_is_gone,
                "message": f"The operation is cancelled; {rest}",
            }
        )


def reachable_configurations(caller: Principal, asked: str | None) -> ConfigID | frozenset[ConfigID] | None:
    """Return the configurations whose operations a list shows: the one that is asked for, else all that may be seen.

    Raises:
        NotAllowed: the one that is asked for may not be seen.
    """
    if asked is None:
        return caller.configurations or None
    caller.check_configuration(asked)
    return ConfigID(asked)


def _get_reachable(tx: UnitOfWork, operation_id: str, caller: Principal) -> Operation:
    """Return the operation. Raises NotFound, NotAllowed: it is of a configuration that the caller may not reach."""
    operation = operations.get_operation(tx, OperationID(operation_id))
    caller.check_configuration(operation.config)
    return operation


def render_operation(operation: Operation) -> dict[str, Any]:
    """Return the operation as plain values."""
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "config": operation.config,
        "entry": operation.entry_id,
        "identifiers": operation.identifiers,
        "state": operation.state.value,
        "attempt": operation.attempts_begun,
        "promised": operation.promised,
        "issuer": operation.issuer_name,
        "created_at": format_instant(operation.created_at),
        "updated_at": format_instant(operation.updated_at),
        "finished_at": format_optional(operation.finished_at),
        "next_attempt_at": format_optional(operation.next_attempt_at),
        "problem": render_problem(operation.problem),
    }


def add_operation_routes(app: FastAPI, parts: Parts) -> None:
    """Add the operations to the native API."""
    routes = OperationRoutes(parts)
    all_at = f"{PREFIX}/operations"
    one_at = f"{all_at}/{{operation_id}}"
    page = answers_json("A page of operations", schemas.OperationList, 400, 422)
    single = answers_json("The operation", schemas.OperationWithSteps, 404, 422)
    started = answers_json("What was started", renewal_schemas.StartedOperation, 400, 404, 422, status=202)
    cancelled = answers_json("It is cancelled", renewal_schemas.CancelledOperation, 400, 404, 422)
    add = RouteAdder(app, "Operations").add
    add("GET", all_at, routes.list_operations, page)
    add("GET", one_at, routes.get_operation, single)
    add("POST", f"{one_at}/retry", routes.retry_operation, started)
    add("POST", f"{one_at}/cancel", routes.cancel_operation, cancelled)


def render_problem(problem: Problem | None) -> dict[str, Any] | None:
    """Return the problem as plain values."""
    if problem is None:
        return None
    return {
        "message": problem.message,
        "type": problem.type,
        "detail": problem.detail,
        "subproblems": [
            {"identifier": identifier, "detail": detail} for identifier, detail in problem.subproblems.items()
        ],
        "retry": problem.retry.value,
        "retry_at": format_optional(problem.retry_at),
    }


def _render_steps(operation: Operation, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Return the steps of the attempts that people count: an overtaken one only found that it was."""
    return [
        _render_step(step, attempt=operation.count_attempts(step.attempt))
        for step in steps
        if step.attempt not in operation.overtaken
    ]


def _render_step(step: Step, *, attempt: int) -> dict[str, Any]:
    return {
        "attempt": attempt,
        "name": step.name,
        "started_at": format_optional(step.started_at),
        "finished_at": format_optional(step.finished_at),
        "outcome": step.outcome,
    }

"""An operation: a workflow as users see it. Attempts of one operation share its id."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from certorbit.errors import (
    AccountProblem,
    BadIssue,
    CAAForbids,
    CertorbitError,
    IssuerRefused,
    NoIssuer,
    RateLimited,
    RetryRule,
    SolverFailed,
    Unreachable,
)
from certorbit.model.entry import ConfigID, Entry, EntryID, EntryUID

OperationID = NewType("OperationID", str)


class Lane(StrEnum):
    """What an entry's operations wait for each other in: a certificate is renewed while a target is away."""

    ISSUANCE = "issuance"
    DEPLOYMENT = "deployment"


class OperationKind(StrEnum):
    ISSUE = "issue"  # a client asked for a new certificate
    RENEW = "renew"  # a generated certificate gets its next version (le_auto_renew)
    REPLACE = "replace"  # an uploaded certificate gets a generated version (le_auto_replace)
    REKEY = "rekey"  # a renewal with a new key whatever the settings say: the old one is compromised
    DEPLOY = "deploy"  # the current version is put on the listeners that the entry is attached to

    @property
    def lane(self) -> Lane:
        return Lane.DEPLOYMENT if self is OperationKind.DEPLOY else Lane.ISSUANCE


class OperationState(StrEnum):
    """queued → running → succeeded | failed | cancelled; waiting between two attempts."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in {OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an attempt failed, in words fit for the client.

    message: what goes into the client's 400: the issuer's own text included.
    type: the ACME URN, or the name of our error class.
    detail: the CA's own sentence, or the message.
    subproblems: the CA's sentence by identifier.
    retry: never, backoff or at; `retry_at` is set for at.
    keeps_order: the order is as good as before (nobody answered, or we are to slow down): the next attempt goes on
        with it instead of asking for another one, because CAs count orders.
    blames_issuer: the issuer can't or won't, for reasons of its own: another issuer may. False where the names are
        at fault, or a new order at the same CA is the cure.
    held: issuers that may not be asked before an instant, by their own word in this attempt or an earlier one.
    """

    message: str
    type: str
    detail: str
    subproblems: dict[str, str]
    retry: RetryRule
    retry_at: datetime | None = None
    keeps_order: bool = False
    blames_issuer: bool = False
    held: dict[str, datetime] = field(default_factory=dict)


def problem_from(error: CertorbitError) -> Problem:
    """Return the error as a value that can be stored and shown."""
    refused = error if isinstance(error, IssuerRefused) else None
    return Problem(
        message=error.message,
        type=refused.type if refused else type(error).__name__,
        detail=refused.detail if refused else error.message,
        subproblems=refused.subproblems if refused else {},
        retry=error.retry.rule,
        retry_at=error.retry.at,
        keeps_order=isinstance(error, Unreachable | RateLimited | SolverFailed | NoIssuer),
        blames_issuer=isinstance(error, Unreachable | RateLimited | AccountProblem | CAAForbids | BadIssue),
    )


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """Return the problem as a JSON value, for a row and for a checkpoint."""
    return {
        "message": problem.message,
        "type": problem.type,
        "detail": problem.detail,
        "subproblems": problem.subproblems,
        "retry": problem.retry.value,
        "retry_at": problem.retry_at.isoformat() if problem.retry_at else None,
        "keeps_order": problem.keeps_order,
        "blames_issuer": problem.blames_issuer,
        "held": {name: until.isoformat() for name, until in problem.held.items()},
    }


def problem_from_json(stored: Mapping[str, Any]) -> Problem:
    """Return what `problem_to_json` wrote."""
    retry_at = stored["retry_at"]
    return Problem(
        message=stored["message"],
        type=stored["type"],
        detail=stored["detail"],
        subproblems=stored["subproblems"],
        retry=RetryRule(stored["retry"]),
        retry_at=datetime.fromisoformat(retry_at) if retry_at else None,
        keeps_order=stored["keeps_order"],
        # Rows of version 0.1.0 don't have these.
        blames_issuer=stored.get("blames_issuer", False),
        held={name: datetime.fromisoformat(until) for name, until in stored.get("held", {}).items()},
    )


@dataclass(frozen=True, slots=True)
class Operation:
    """The record of one operation.

    attempt: 1 for the first; each attempt is a workflow of its own (`workflow_id`), so a number is never used twice.
        While WAITING it is the next attempt's, which has its workflow already. People are shown `attempts_begun`.
    promised: a client was told 201: the entry must stay and the issuance must go on until it succeeds.
    next_attempt_at: set while WAITING.
    issuer_name: "" until an attempt chose one.
    overtaken: the numbers of attempts that were planned and never begun, because another one took their place.
    """

    id: OperationID
    kind: OperationKind
    config: ConfigID
    entry_id: EntryID
    entry_uid: EntryUID
    identifiers: tuple[str, ...]
    state: OperationState
    attempt: int
    promised: bool
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    next_attempt_at: datetime | None
    issuer_name: str
    problem: Problem | None
    overtaken: tuple[int, ...] = ()

    @property
    def attempts_begun(self) -> int:
        """Return how many attempts there were up to now; one that is queued counts, one that is planned doesn't."""
        is_planned = self.state is OperationState.WAITING or self.attempt in self.overtaken
        return self.count_attempts(self.attempt) - is_planned

    def count_attempts(self, number: int) -> int:
        """Return which attempt, as people count them, the one of this number is."""
        return number - sum(one < number for one in self.overtaken)

    @property
    def workflow_id(self) -> str:
        """The engine's id of the present attempt."""
        return workflow_id(self.id, self.attempt)

    def begin_next(self, *, now: datetime) -> "Operation":
        """Return the operation with its next attempt queued; a delayed workflow of this one then finds it gone by.

        The number moves on in any case: the delayed workflow has this one, and may begin at any moment.
        """
        return replace(
            self,
            state=OperationState.QUEUED,
            attempt=self.attempt + 1,
            updated_at=now,
            next_attempt_at=None,
            overtaken=self._overtaken_now(),
        )

    def cancel(self, *, now: datetime) -> "Operation":
        """Return the operation given up; what is under way of it, or planned, then finds it ended."""
        return replace(
            self,
            state=OperationState.CANCELLED,
            updated_at=now,
            finished_at=now,
            next_attempt_at=None,
            overtaken=self._overtaken_now(),
        )

    def wait_until(self, due: datetime, problem: Problem, *, now: datetime) -> "Operation":
        """Return the operation with its next attempt planned for then, because of the problem."""
        return replace(
            self,
            state=OperationState.WAITING,
            attempt=self.attempt + 1,
            updated_at=now,
            next_attempt_at=due,
            problem=problem,
        )

    def _overtaken_now(self) -> tuple[int, ...]:
        """Return the numbers of attempts that never begin, once the one that is planned doesn't either."""
        is_planned = self.state is OperationState.WAITING
        return (*self.overtaken, self.attempt) if is_planned else self.overtaken


def new_operation(
    entry: Entry,
    kind: OperationKind,
    *,
    id: OperationID,  # noqa: A002 - the field's name
    now: datetime,
    issuer_name: str = "",
) -> Operation:
    """Return an operation for the entry, whose first attempt is queued. issuer_name: "" for the first one."""
    return Operation(
        id=id,
        kind=kind,
        config=entry.config,
        entry_id=entry.id,
        entry_uid=entry.uid,
        identifiers=entry.identifiers,
        state=OperationState.QUEUED,
        attempt=1,
        # Whoever asks for a new entry waits for the answer; what an entry has is relied on already.
        promised=kind is not OperationKind.ISSUE,
        created_at=now,
        updated_at=now,
        finished_at=None,
        next_attempt_at=None,
        issuer_name=issuer_name,
        problem=None,
    )


def workflow_id(operation: OperationID, attempt: int) -> str:
    return f"{operation}.{attempt}"


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step of an attempt, as the engine recorded it. `outcome` is the step's own value."""

    attempt: int
    name: str
    started_at: datetime | None
    finished_at: datetime | None
    outcome: dict[str, object]

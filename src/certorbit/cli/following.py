"""The wait for an operation's end."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from certorbit.cli import showing, showing_operations
from certorbit.cli.remote import Remote
from certorbit.clock import Clock, SystemClock
from certorbit.errors import Refused
from certorbit.model.operation import OperationState

POLL_SECONDS: Final = 1.0
_CLOCK: Final = SystemClock()
_ENDED: Final = frozenset(state for state in OperationState if state.is_final)


def follow(service: Remote, operation: str, *, seconds: float, as_json: bool) -> None:
    """Show the operation when it has ended, or when it won't in this time.

    Raises:
        Refused: it did not succeed; the message says why. Unreachable: the service went away.
    """
    document = asyncio.run(wait(lambda: service.call("GET", "operations", operation), seconds=seconds, clock=_CLOCK))
    showing.show(document, as_json=as_json, for_people=showing_operations.show_operation)
    state, problem = document["state"], document["problem"]
    if state == OperationState.SUCCEEDED:
        return
    why = f": {problem['message']}" if problem else "."
    if state in _ENDED:
        raise Refused(showing.plain(f"The operation {operation} has {_word(state)}{why}"))
    raise Refused(showing.plain(f"The operation {operation} has not ended, but goes on; it is {state}{why}"))


async def wait(look: Callable[[], Any], *, seconds: float, clock: Clock) -> Any:
    """Return the operation as `look` gives it: ended, or as it is when the time is over.

    One that waits for an attempt that lies behind that time is returned at once.
    """
    deadline = clock.now() + timedelta(seconds=seconds)
    while True:
        document = look()
        if document["state"] in _ENDED or clock.now() >= deadline or _comes_too_late(document, deadline):
            return document
        await clock.sleep(min(POLL_SECONDS, max(0.0, (deadline - clock.now()).total_seconds())))


def _comes_too_late(document: Any, deadline: datetime) -> bool:
    text = document["next_attempt_at"]
    is_waiting = document["state"] == OperationState.WAITING and text
    return bool(is_waiting) and datetime.fromisoformat(text) > deadline


def _word(state: str) -> str:
    return "failed" if state == OperationState.FAILED else "been cancelled"

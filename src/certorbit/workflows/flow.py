"""What a workflow body sees of the engine: steps that are done once, and waits that survive a restart."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol, cast

from certorbit.clock import Clock
from certorbit.errors import Broken
from certorbit.workflows.executors import Recorded
from certorbit.workflows.transact import Call, Checkpoint, Verdict

Work = Callable[[], Awaitable[dict[str, object]]]

BROKEN_KEY: Final = "certorbit.broken"  # in the outcome of a step that ended in a bug: the id of its log event
SLEEP: Final = "DBOS.sleep"  # DBOS's own name and form for it: its tools show it as a wait


class Flow(Protocol):
    """The engine as a workflow body sees it.

    A body runs again from its start after a crash, so all that it does outside of steps is without effect, and it
    takes the same steps in the same order when their outcomes are the same.
    """

    async def step(self, name: str, work: Work) -> dict[str, object]:
        """Do the work unless an earlier run finished it, and return its outcome.

        A finished step never runs again; one that was under way at a crash does, so `work` looks first at what is
        done. The outcome is JSON and comes back as JSON gives it. `work` doesn't raise: an exception of it is a bug,
        ends the workflow, and is told to the engine's `on_broken`.

        name: constant; it is stored, and must not change while workflows of an older version may be running.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. After a crash only what is left of the time is waited for. It still counts as in flight."""
        ...


class Superseded(asyncio.CancelledError):
    """Another execution owns the workflow now, so this one ends without a trace."""


class StepBroke(Exception):
    """A step ended in a bug, which is logged under `error_id`. Not a CertorbitError: no body shall catch it."""

    def __init__(self, error_id: str) -> None:
        super().__init__(error_id)
        self.error_id = error_id


def encode_outcome(outcome: object) -> str:
    """Return a step's outcome as JSON text.

    Raises:
        TypeError, ValueError: it isn't a JSON object; a private key never is.
    """
    if not isinstance(outcome, dict):
        raise TypeError(f"a step's outcome is a dict, not {type(outcome).__name__}")
    return json.dumps(outcome, allow_nan=False)


class DurableFlow:
    """A Flow over DBOS's tables.

    recorded: what earlier runs finished. enter: waits until new work may begin. perform: does a step's work and
    returns its outcome as JSON text, bugs included. save: writes a checkpoint.
    """

    def __init__(
        self,
        call: Call,
        recorded: Mapping[int, Recorded],
        *,
        enter: Callable[[], Awaitable[None]],
        perform: Callable[[str, Work], Awaitable[str]],
        save: Callable[[Checkpoint], Awaitable[Verdict]],
        clock: Clock,
    ) -> None:
        self._call = call
        self._recorded = recorded
        self._enter = enter
        self._perform = perform
        self._save = save
        self._clock = clock
        self._place = 0  # DBOS numbers steps from 1 too

    async def step(self, name: str, work: Work) -> dict[str, object]:
        place = self._next_place()
        text = self._find(place, name)
        if text is None:
            await self._enter()
            started = self._clock.now()
            text = await self._perform(name, work)
            await self._write(place, name, text, started=started, finished=self._clock.now())
        outcome = cast("dict[str, object]", json.loads(text))
        if BROKEN_KEY in outcome:
            raise StepBroke(str(outcome[BROKEN_KEY]))
        return outcome

    async def sleep(self, seconds: float) -> None:
        place = self._next_place()
        text = self._find(place, SLEEP)
        if text is None:
            await self._enter()
            started = self._clock.now()
            text = json.dumps(started.timestamp() + seconds)
            wake_at = datetime.fromtimestamp(float(text), tz=UTC)
            await self._write(place, SLEEP, text, started=started, finished=wake_at)
        await self._clock.sleep(max(0.0, float(text) - self._clock.now().timestamp()))

    def _next_place(self) -> int:
        self._place += 1
        return self._place

    def _find(self, place: int, name: str) -> str | None:
        recorded = self._recorded.get(place)
        if recorded is None:
            return None
        if recorded.name != name:
            raise Broken(
                f"Step {place} of {self._call.workflow} was recorded as {recorded.name!r}, and is {name!r} now: the"
                " workflow's steps were changed while it was running.",
                subject=self._call.workflow,
            )
        return recorded.outcome

    async def _write(self, place: int, name: str, text: str, *, started: datetime, finished: datetime) -> None:
        verdict = await self._save(
            Checkpoint(
                call=self._call,
                place=place,
                name=name,
                outcome=text,
                started_ms=int(started.timestamp() * 1000),
                finished_ms=int(finished.timestamp() * 1000),
            )
        )
        if verdict is Verdict.SUPERSEDED:
            raise Superseded(self._call.workflow)
        if verdict is Verdict.TAKEN:
            raise Broken(
                f"Step {place} of {self._call.workflow} is recorded already; a body takes one step at a time.",
                subject=self._call.workflow,
            )

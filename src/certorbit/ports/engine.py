"""The workflow engine as the rest of us sees it. `workflows/engine.py` stands on DBOS behind this."""

from collections.abc import Sequence
from typing import Protocol

from certorbit.model.operation import Operation, OperationID, Step


class StepReader(Protocol):
    async def list_steps(self, operation: OperationID, *, attempts: int) -> Sequence[Step]:
        """Return the finished steps of attempts 1 to `attempts`, in order."""
        ...


class OperationWatch(Protocol):
    """Waits for operations without holding a thread or a database session."""

    async def wait(self, operation: OperationID, *, seconds: float) -> Operation:
        """Return the operation as soon as waiting longer is of no use.

        That is: it is final; or it is WAITING and its next attempt starts after the wait would be over; or the
        seconds are over. Many may wait at once: one query looks for all of them.
        """
        ...

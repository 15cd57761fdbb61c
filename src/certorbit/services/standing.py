"""How things stand in numbers: three grouped queries, the same for every node."""

from datetime import datetime, timedelta
from typing import Final

from certorbit.model.operation import Lane
from certorbit.model.standing import Standing
from certorbit.ports.store import UnitOfWork

DEPLOYMENTS_OF: Final = timedelta(days=1)


def read_standing(tx: UnitOfWork, *, now: datetime) -> Standing:
    """Return the numbers of this instant."""
    return Standing(
        attachments=tx.attachments.count_groups(),
        certificates=tx.revocations.count_standings(now=now),
        deployments=tx.operations.count_states(lane=Lane.DEPLOYMENT, since=now - DEPLOYMENTS_OF),
    )

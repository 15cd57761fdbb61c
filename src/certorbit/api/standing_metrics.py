"""The metrics that are read from the database when they are asked for: every node tells the same numbers."""

from datetime import datetime, timedelta
from typing import Final

from certorbit.api.stored_gauges import StoredGauges
from certorbit.clock import Clock
from certorbit.model.operation import OperationState
from certorbit.model.standing import RevocationStanding, Standing
from certorbit.observe.metrics import Metrics
from certorbit.ports.store import Store
from certorbit.services.standing import read_standing

_KEPT: Final = timedelta(seconds=10)  # several watchers cost one reading


class StandingMetrics:
    """What listeners serve, what is known of revocations, how deployments end."""

    def __init__(self, *, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._is_up = metrics.gauge(
            "certorbit_database_up",
            meaning="Whether the numbers of attachments, certificates, deployments were read.",
        )
        self._attachments = metrics.gauge(
            "certorbit_attachments",
            meaning="Certificates on listeners, or to be put there. as_wanted: a handshake showed the current version.",
            labels=("target", "stage", "as_wanted"),
        )
        self._certificates = metrics.gauge(
            "certorbit_certificates",
            meaning="Current versions that can be revoked, by what is known of their revocation.",
            labels=("revocation",),
        )
        self._deployments = metrics.gauge(
            "certorbit_deployments_of_a_day",
            meaning="Deployments that were begun within the last 24 hours, by where they stand.",
            labels=("state",),
        )

        self._gauges = StoredGauges(
            store=store,
            clock=clock,
            gauges=(self._attachments, self._certificates, self._deployments),
            read=lambda tx, now: read_standing(tx, now=now),
            show=self._show,
            kept=_KEPT,
        )

    async def refresh(self) -> None:
        """Read the numbers, unless that was just done."""
        self._is_up.set(number=int(await self._gauges.refresh()))

    def _show(self, found: Standing, _now: datetime) -> None:
        self._attachments.replace(
            {
                (group.target, group.stage.value, "yes" if group.is_as_wanted else "no"): number
                for group, number in found.attachments.items()
            }
        )
        # Every value is there, if only as 0: a rule that looks for one sees that there is none.
        self._certificates.replace({(known.value,): found.certificates.get(known, 0) for known in RevocationStanding})
        self._deployments.replace({(state.value,): found.deployments.get(state, 0) for state in OperationState})

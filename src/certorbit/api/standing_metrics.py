"""The metrics that are read from the database when they are asked for: every node tells the same numbers."""

from datetime import datetime, timedelta
from typing import Final

import structlog

from certorbit.clock import Clock
from certorbit.errors import CertorbitError
from certorbit.model.operation import OperationState
from certorbit.model.standing import RevocationStanding, Standing
from certorbit.observe.metrics import Metrics
from certorbit.ports.store import Store
from certorbit.services.standing import read_standing

log = structlog.get_logger(__name__)

_KEPT: Final = timedelta(seconds=10)  # several watchers cost one reading


class StandingMetrics:
    """Gauges of what the database holds. While it doesn't answer they are left out, never old."""

    def __init__(self, *, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._read_at: datetime | None = None
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

    async def refresh(self) -> None:
        """Read the numbers, unless that was just done."""
        now = self._clock.now()
        if self._read_at is not None and timedelta(0) <= now - self._read_at < _KEPT:
            return
        try:
            found = await self._store.read(lambda tx: read_standing(tx, now=now))
        except CertorbitError as error:
            log.warning("metrics.not_read", message=error.message)
            self._read_at = None
            self._is_up.set(number=0)
            for gauge in (self._attachments, self._certificates, self._deployments):
                gauge.replace({})
            return
        self._show(found)
        self._is_up.set(number=1)
        self._read_at = now

    def _show(self, found: Standing) -> None:
        self._attachments.replace(
            {
                (group.target, group.stage.value, "yes" if group.is_as_wanted else "no"): number
                for group, number in found.attachments.items()
            }
        )
        # Every value is there, if only as 0: a rule that looks for one sees that there is none.
        self._certificates.replace({(known.value,): found.certificates.get(known, 0) for known in RevocationStanding})
        self._deployments.replace({(state.value,): found.deployments.get(state, 0) for state in OperationState})

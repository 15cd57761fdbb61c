"""The metrics that say whether certificates are kept from ending, read from the database like `standing_metrics.py`."""

from datetime import datetime, timedelta
from typing import Final

from certorbit.api.stored_gauges import StoredGauges
from certorbit.clock import Clock
from certorbit.model.operation import OperationKind, OperationState
from certorbit.model.upkeep import RenewalStanding, Upkeep, Validity, Within
from certorbit.observe.metrics import Labels, Metrics
from certorbit.ports.store import Store
from certorbit.services.upkeep import read_upkeep

# Counting the ends of 100,000 certificates takes 0.7 s of one thread (docs/metrics.md).
_KEPT: Final = timedelta(seconds=60)
SWEEPS: Final = ("deployment", "renewal")  # the periodic jobs that no setting switches off
RENEWAL: Final = "renewal"
# Taken up each minute by any worker. Five times that: a sweep that asks a slow CA about many certificates takes longer.
WORKER_GONE: Final = timedelta(minutes=5)
_UNFINISHED: Final = (OperationState.QUEUED, OperationState.RUNNING, OperationState.WAITING)
_NEVER: Final = timedelta(days=365)  # a sweep that is so late had no turn yet: its row is as the migration made it


class UpkeepMetrics:
    """What ends and what is done about it: renewals, sweeps, targets, workers."""

    def __init__(self, *, store: Store, clock: Clock, metrics: Metrics) -> None:
        self._entries = metrics.gauge(
            "certorbit_entries",
            meaning="Certificates and CA bundles by whether their current version is valid.",
            labels=("validity",),
        )
        self._ending = metrics.gauge(
            "certorbit_entries_ending",
            meaning="Valid current versions that end within so many days, by what is done about it.",
            labels=("within", "renewal"),
        )
        self._first_end = metrics.gauge(
            "certorbit_first_end_seconds",
            meaning="Until the first current version of a configuration ends; below 0: since it has ended.",
            labels=("config",),
        )
        self._unfinished = metrics.gauge(
            "certorbit_operations_unfinished",
            meaning="Issuances and deployments that are not over, of any age.",
            labels=("kind", "state"),
        )
        self._late = metrics.gauge(
            "certorbit_sweep_late_seconds",
            meaning="How long a job that comes round again has been due without any worker taking it up.",
            labels=("sweep",),
        )
        self._seen = metrics.gauge(
            "certorbit_target_seen_seconds",
            meaning="Since the target answered last when it was asked what it holds.",
            labels=("target",),
        )
        self._up = metrics.gauge(
            "certorbit_target_up",
            meaning="Whether the target answered at the last look.",
            labels=("target",),
        )
        self._worker = metrics.gauge(
            "certorbit_worker_alive",
            meaning="Whether any worker of the cluster has looked for due renewals in the last minutes.",
        )
        certificates = (self._entries, self._ending, self._first_end)
        self._gauges = StoredGauges(
            store=store,
            clock=clock,
            gauges=(*certificates, self._unfinished, self._late, self._seen, self._up, self._worker),
            read=lambda tx, now: read_upkeep(tx, now=now),
            show=self._show,
            kept=_KEPT,
        )

    async def refresh(self) -> None:
        """Read the numbers, unless that was just done."""
        await self._gauges.refresh()

    def _show(self, found: Upkeep, now: datetime) -> None:
        self._show_certificates(found, now=now)
        self._show_work(found, now=now)

    def _show_certificates(self, found: Upkeep, *, now: datetime) -> None:
        # Every value is there, if only as 0: a rule that looks for one sees that there is none.
        self._entries.replace({(each.value,): found.entries.get(each, 0) for each in Validity})
        ending: dict[Labels, float] = {
            (within.value, renewal.value): found.ending.get((within, renewal), 0)
            for within in Within
            for renewal in RenewalStanding
        }
        self._ending.replace(ending)
        self._first_end.replace({(config,): (end - now).total_seconds() for config, end in found.first_ends.items()})

    def _show_work(self, found: Upkeep, *, now: datetime) -> None:
        unfinished: dict[Labels, float] = {
            (kind.value, state.value): found.unfinished.get((kind, state), 0)
            for kind in OperationKind
            for state in _UNFINISHED
        }
        self._unfinished.replace(unfinished)
        late = {sweep: max(timedelta(0), now - found.sweeps[sweep]) for sweep in SWEEPS if sweep in found.sweeps}
        self._late.replace({(sweep,): by.total_seconds() for sweep, by in late.items() if by < _NEVER})
        self._worker.set(number=int(late.get(RENEWAL, _NEVER) < WORKER_GONE))
        seen: dict[Labels, float] = {
            (target,): (now - at).total_seconds() for target, at in found.seen.items() if at is not None
        }
        self._seen.replace(seen)
        self._up.replace({(target,): int(target not in found.unseen) for target in found.seen})

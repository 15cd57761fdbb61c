"""The solvers of the settings, in order of preference."""

from collections.abc import Sequence
from dataclasses import dataclass

from certorbit.clock import Chance, Clock
from certorbit.net.resolve import Resolution
from certorbit.ports.dns import DNSZoneWriter
from certorbit.ports.solver import Solver
from certorbit.ports.store import Store
from certorbit.solver_settings import HTTP01SolverSettings, SolverSettings
from certorbit.solvers.dns.registry import make_writer
from certorbit.solvers.dns01 import DNS01Solver, NameLocks
from certorbit.solvers.http01 import HTTP01Solver
from certorbit.solvers.propagation import Propagation


@dataclass(frozen=True, slots=True)
class Solvers:
    """in_order: the first that covers an identifier, and whose challenge the CA offers, is used."""

    in_order: Sequence[Solver]
    writers: Sequence[DNSZoneWriter]

    async def close(self) -> None:
        for writer in self.writers:
            await writer.close()


def make_solvers(tables: Sequence[SolverSettings], *, store: Store, clock: Clock, chance: Chance) -> Solvers:
    """Return the solvers of the tables, the longest zone first, else in the order of the tables.

    Where no table is for HTTP-01, it comes last for all names: it needs no set-up of ours.

    Raises:
        BadInput: an optional package is missing.
    """
    if not any(isinstance(table, HTTP01SolverSettings) for table in tables):
        tables = [*tables, HTTP01SolverSettings(type="http-01")]
    locks = NameLocks()
    solvers: list[Solver] = []
    writers: list[DNSZoneWriter] = []
    for table in sorted(tables, key=_labels, reverse=True):  # stable, also in reverse
        if isinstance(table, HTTP01SolverSettings):
            solvers.append(HTTP01Solver(store=store, clock=clock, zone=table.zone))
            continue
        writer = make_writer(table.type, table, clock=clock, chance=chance)
        resolution = Resolution(resolvers=table.resolvers)
        propagation = Propagation(kind=table.type, settings=table, resolution=resolution, clock=clock, chance=chance)
        writers.append(writer)
        solvers.append(
            DNS01Solver(writer=writer, settings=table, resolution=resolution, propagation=propagation, locks=locks)
        )
    return Solvers(solvers, writers)


def _labels(table: SolverSettings) -> int:
    return len(table.zone.split(".")) if table.zone else 0

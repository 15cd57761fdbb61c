"""A simulated year: the real sweep, issuance, ladder, limits and store, on a clock that jumps from event to event.

`make simulate` prints one JSON line. What its numbers mean exactly is in audit.py, what happens to the certificates in
world.py.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import TypeVar

import sqlalchemy as sa
import structlog
from audit import count_needed, count_overruns, is_savable, read_lives
from engine import SimulatedEngine
from world import NOTHING_HAPPENS, Chances, Killed, SimulatedCA, Weather, World, draw_spans

from certorbit.limit_settings import LimitOverride, LimitsSettings
from certorbit.model.ca_limits import LETS_ENCRYPT, CALimits, LimitPolicy, policy_from
from certorbit.model.commands import Generate
from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, Side
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.limits import RuleName
from certorbit.model.material import KeyType
from certorbit.model.operation import Operation, OperationKind
from certorbit.model.renewal import RenewalRules
from certorbit.ports.store import UnitOfWork
from certorbit.services import certificates, promises, renewals
from certorbit.services.permitting import ConfigIssuers
from certorbit.storage import SQLStore, make_engine, migrate
from certorbit.workflows.issuance import Issuance
from certorbit.workflows.renewal import Renewal
from fakes.clock import FakeClock
from fakes.memory_keyring import MemoryKeyring

T = TypeVar("T")
PROD = ConfigID("prod")
START = datetime(2027, 1, 1, tzinfo=UTC)
LIFETIMES = {90: timedelta(days=90), 45: timedelta(days=45), 6: timedelta(hours=160)}
SECOND_CA = "https://second-ca.test/directory"
NAMES_PER_DOMAIN = 60  # more than Let's Encrypt's 50 per week: some of them have to wait at the start
MINUTE = timedelta(minutes=1)
NAMES_BREAK = 400  # mean days from one time that a certificate's names can't be validated to the next


@dataclass(frozen=True, slots=True)
class Report:
    """The line that is printed."""

    certificates: int
    days: int
    orders: int
    orders_needed: int
    expired_savable: int
    limit_overruns: int


@dataclass(frozen=True, slots=True)
class Climate:
    """How bad a CA's weather is: the mean days between two troubles, and the longest one in hours."""

    down_gap: float
    down_longest: float
    busy_gap: float
    busy_longest: float


CLIMATES = (Climate(12, 120, 15, 72), Climate(8, 120, 8, 120))
CALM = (None, None)
# So bad that certificates do expire: for what is to be seen then.
STORMS = (Climate(2, 300, 3, 200), Climate(3, 300, 1.5, 300))


class InPlaceStore(SQLStore):
    """The store without its threads: here nobody waits for anybody, and a hop costs as much as a transaction."""

    async def write(self, work: Callable[[UnitOfWork], T]) -> T:
        return self._write_once(work)


class Simulation:
    """One year of some certificates. What happens follows from the seed, but for the keys, which spread the due times.

    sweep_every: how often the sweep runs at most. The service does it each minute; a year of 1,000 certificates is
    simulated in coarser steps.
    """

    def __init__(
        self,
        path: Path,
        *,
        certificates: int,
        days: int,
        seed: int,
        chances: Chances | None = None,
        climates: tuple[Climate | None, Climate | None] = CLIMATES,
        mix: tuple[int, ...] = (90, 45, 6),
        sweep_every: timedelta = MINUTE,
    ) -> None:
        self.random = Random(seed)
        self.clock = FakeClock(START)
        self.days = days
        self.year = (START, START + timedelta(days=days))
        self.sweep_every = sweep_every
        self.names = {f"c{number}": _names(number) for number in range(certificates)}
        self.chosen = {name: "second" if number % 2 else "" for number, name in enumerate(self.names)}
        lifetimes = {names[0]: LIFETIMES[mix[n % len(mix)]] for n, names in enumerate(self.names.values())}
        self.world = World(
            clock=self.clock,
            random=self.random,
            chances=chances or Chances(),
            lifetimes=lifetimes,
            broken={
                name: self._draw_spans(NAMES_BREAK, hours=(1, 72)) for name in lifetimes if chances != NOTHING_HAPPENS
            },
        )
        same = [
            LimitOverride(directory=SECOND_CA, limit=name.value, value=getattr(LimitsSettings(), name), subject="")
            for name in RuleName
        ]
        self.policy = policy_from(LimitsSettings(overrides=tuple(same)))
        first, second = (self._draw_weather(climate) for climate in climates)
        self.cas = (
            self._make_ca("first", first, directory=LETS_ENCRYPT, has_ari=True),
            self._make_ca("second", second, directory=SECOND_CA, has_ari=False),
        )
        self.database = make_engine(f"sqlite:///{path}")
        sa.event.listen(self.database, "connect", _make_careless)
        migrate(self.database)
        self.store = InPlaceStore(self.database, clock=self.clock, chance=self.world)
        self.operations: dict[str, str] = {}
        self.engine = SimulatedEngine(
            self.database, world=self.world, name_of=lambda operation: self.operations.get(operation, "")
        )
        self.store.connect_enqueue(self.engine.enqueue)
        numbers = count(1)
        self.new_id = lambda: f"id-{next(numbers)}"
        self.engine.run = self._make_issuance().run
        self.renewal = Renewal(
            store=self.store,
            issuers=self.cas,
            clock=self.clock,
            chance=self.world,
            rules=RenewalRules(),
            start=self._start_renewal,
            go_on=lambda tx, operation, now: renewals.start_next_attempt(tx, operation, issuer="", now=now),
        )
        self.sweeps = 0

    @property
    def kept_policy(self) -> LimitPolicy:
        """The limits that we keep; `policy` are those that the audit asks for."""
        return self.policy

    @property
    def enforced_policy(self) -> LimitPolicy:
        """The limits that the CAs enforce."""
        return self.policy

    async def run(self) -> Report:
        """Live through the year and look back at it."""
        await self._create_entries()
        next_sweep = START
        while True:
            look_at = self._first_look_at()
            sweep_at = max(_round_up(look_at, to=self.sweep_every), next_sweep) if look_at else self.year[1]
            at = min(sweep_at, self.engine.next_at() or self.year[1])
            if at >= self.year[1]:
                break
            self.clock.advance(max(0.0, (at - self.clock.now()).total_seconds()))
            await self.engine.run_due()
            if sweep_at <= self.clock.now():
                next_sweep = sweep_at + self.sweep_every
                await self._sweep()
        await self.store.close()
        return self._look_back()

    def find_expired(self) -> Iterator[tuple[str, bool]]:
        """Return what became of each version that expired: its certificate's name, and whether it could be saved."""
        for life in read_lives(self.database, end=self.year[1]):
            if life.is_expired:
                broken = self.world.broken.get(life.name, ())
                yield (
                    life.name,
                    is_savable(
                        life,
                        lifetime=self.world.lifetimes[life.name],
                        troubles=[[*ca.weather.down, *ca.weather.busy, *broken] for ca in self.cas],
                        mishaps=self.world.mishaps.get(life.name, []),
                    ),
                )

    def _look_back(self) -> Report:
        expired = Counter(savable for _, savable in self.find_expired())
        return Report(
            certificates=len(self.names),
            days=self.days,
            orders=sum(ca.orders_made for ca in self.cas),
            orders_needed=count_needed(self.world.lifetimes, year=self.year),
            expired_savable=expired[True],
            limit_overruns=count_overruns(self.database, self.policy),
        )

    async def _create_entries(self) -> None:
        """What 1,000 POSTs at once do. Every second certificate is given to the second CA by the operator."""
        await self.store.write(lambda tx: tx.configurations.add(Configuration(PROD, "", 1, START)))
        for entry_id, names in self.names.items():
            command = Generate(
                config=PROD,
                id=EntryID(entry_id),
                side=Side.SERVER,
                identifiers=normalise_identifiers(names),
                le_auto_renew=True,
                le_auto_replace=True,
            )
            await self.store.write(partial(self._create, command=command, issuer=self.chosen[entry_id]))

    def _create(self, tx: UnitOfWork, *, command: Generate, issuer: str) -> None:
        accepted = certificates.generate(tx, command, by="tester", now=START, new_id=self.new_id, covers=lambda _: True)
        assert accepted.operation is not None
        promises.promise(tx, accepted.operation, now=START)
        renewals.change_schedule(
            tx, PROD, command.id, paused=None, issuer=issuer, issuers=ConfigIssuers(self.cas), now=START
        )
        self.operations[accepted.operation] = self.names[command.id][0]

    async def _sweep(self) -> None:
        self.sweeps += 1
        try:
            await self.renewal.sweep()
        except Killed:
            return  # the next one finds what this one left

    def _start_renewal(
        self, tx: UnitOfWork, entry: Entry, kind: OperationKind, issuer: str, now: datetime
    ) -> Operation:
        self.world.pass_by()
        operation = renewals.start_operation(tx, entry, kind, issuer=issuer, now=now, new_id=self.new_id)
        self.operations[operation.id] = entry.identifiers[0]
        return operation

    def _make_issuance(self) -> Issuance:
        return Issuance(
            store=self.store,
            keyring=MemoryKeyring(),
            issuers=self.cas,
            clock=self.clock,
            chance=self.world,
            key_type=KeyType.ECDSA_P256,
            reuse_key=False,
            limits=self.kept_policy,
            new_id=self.new_id,
            wake=lambda _: None,
            slots=asyncio.Semaphore(1),
        )

    def _make_ca(self, name: str, weather: Weather, *, directory: str, has_ari: bool) -> SimulatedCA:
        limits = self.enforced_policy.of(directory) or CALimits(directory, {})
        return SimulatedCA(name, world=self.world, weather=weather, limits=limits, directory=directory, has_ari=has_ari)

    def _draw_spans(self, gap_days: float, *, hours: tuple[float, float]) -> list[tuple[datetime, datetime]]:
        shortest, longest = (timedelta(hours=number) for number in hours)
        return draw_spans(
            self.random, year=self.year, mean_gap=timedelta(days=gap_days), shortest=shortest, longest=longest
        )

    def _draw_weather(self, climate: Climate | None) -> Weather:
        if climate is None:
            return Weather()
        return Weather(
            down=self._draw_spans(climate.down_gap, hours=(0.2, climate.down_longest)),
            busy=self._draw_spans(climate.busy_gap, hours=(0.1, climate.busy_longest)),
        )

    def _first_look_at(self) -> datetime | None:
        with self.database.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            found = raw.execute("SELECT min(due_at) FROM entries").fetchone()[0]
        return datetime.fromisoformat(found) if found else None


def _names(number: int) -> tuple[str, ...]:
    """Return one to three names; many certificates share a registered domain."""
    domain = f"shop{number // NAMES_PER_DOMAIN}.test"
    return tuple(
        f"{word}{number}.{domain}" for word in ("www", "api", "img")[: 1 + number % 10 // 8 + number % 20 // 18]
    )


def _round_up(instant: datetime, *, to: timedelta) -> datetime:
    return START - (START - instant) // to * to


def _make_careless(connection: object, _entry: object) -> None:
    """No power cut ends this year: what the disk has is of no matter."""
    connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]


@contextmanager
def quiet_logs() -> Iterator[None]:
    """A year's log lines take longer than the year."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()


def describe(simulation: Simulation) -> Mapping[str, object]:
    """Return what is good to know besides the report."""
    expired = Counter(savable for _, savable in simulation.find_expired())
    return {
        "sweeps": simulation.sweeps,
        "kills": simulation.world.kills,
        "mishaps": sum(map(len, simulation.world.mishaps.values())),
        "orders": {ca.name: ca.orders_made for ca in simulation.cas},
        "limited_by_ca": {ca.name: ca.refusals_by_limit for ca in simulation.cas},
        "days_down": {ca.name: sum(((b - a) for a, b in ca.weather.down), timedelta(0)).days for ca in simulation.cas},
        "expired_beyond_help": expired[False],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--certificates", type=int, default=1000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sweep-minutes", type=int, default=30, help="the service's are 1: coarser is quicker")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="certorbit-year-") as folder, quiet_logs():
        simulation = Simulation(
            Path(folder) / "year.db",
            certificates=arguments.certificates,
            days=arguments.days,
            seed=arguments.seed,
            sweep_every=timedelta(minutes=arguments.sweep_minutes),
        )
        report = asyncio.run(simulation.run())
        print(json.dumps(dict(describe(simulation))), f"{time.monotonic() - began:.0f} s", file=sys.stderr)  # noqa: T201 - as below
    print(json.dumps(asdict(report)))  # noqa: T201 - this is started by hand


if __name__ == "__main__":
    main()

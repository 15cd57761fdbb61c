"""Time of the renewal sweep and of one decision, with 1,000, 100,000 and 1,000,000 certificates in the store.

What is due in a minute is the same each time, so the numbers must stay flat: the sweep costs what its page costs, and
not what the table holds. Rows are written by SQL; those that are due have chains of real size. The sweep asks an issuer
in this process for each renewal window (ARI), decides, and writes the schedules down; nothing is issued.

Writes benchmarks/results/sweep.json: `sweep_ms` of a whole sweep over `due` certificates, `decision_us` of one
certificate's row read by its id and decided on; medians.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certorbit.model.entry import EntryUID
from certorbit.model.identifiers import Identifier
from certorbit.model.renewal import RenewalInfo, RenewalRules, decide, lifetime_of, note_answer
from certorbit.storage import SQLStore, make_engine, migrate
from certorbit.workflows.renewal import INTERVAL, PAGE, Renewal

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "sweep.json"
SIZES = (1_000, 100_000, 1_000_000)
DUE = PAGE  # a full page; at Let's Encrypt's six hours that is a minute of 72,000 certificates
NOW = datetime(2027, 1, 1, tzinfo=UTC)
CHAIN_CHARACTERS = 3_500

_FILL = """
WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {size})
INSERT INTO {table} SELECT {values} FROM numbers
"""
_ENTRY = (
    "printf('u%07d', n), 'bench', printf('e%07d', n), 'server', 'generated', 1, 1,"
    " printf('[\"www%d.bench.test\"]', n), '[]', '[]', '', '{now}', printf('v%07d', n), '{later}'"
)
_VERSION = (
    "printf('v%07d', n), printf('u%07d', n), '{now}', 'generated', '', NULL, '', 'bench', '', 'CN=Bench',"
    " printf('[\"www%d.bench.test\"]', n), '{begin}', '{end}', '01', '[]', printf('%064x', n * 2654435761), '',"
    " 'ECDSA', '', 0"
)
_SCHEDULE = "printf('u%07d', n), '{later}', 'ari', NULL, 0, '', NULL"


class BenchClock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.instant = NOW

    def now(self) -> datetime:
        return self.instant

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class BenchChance:
    def between(self, low: float, high: float) -> float:
        return random.uniform(low, high)


class BenchIssuer:
    """A CA with ARI, without the network. Its other methods aren't asked."""

    name = "bench"
    directory = "https://ca.bench.test/directory"
    can_issue_wildcards = False

    def __init__(self, clock: BenchClock) -> None:
        self._clock = clock
        self.asked = 0

    def covers(self, identifier: Identifier) -> bool:
        return not identifier.is_wildcard

    async def renewal_info(self, chain_pem: str, *, previous: RenewalInfo | None) -> RenewalInfo | None:
        assert len(chain_pem) == CHAIN_CHARACTERS
        self.asked += 1
        return note_answer(
            previous,
            start=NOW + timedelta(days=30),
            end=NOW + timedelta(days=32),
            explanation_url="",
            retry_after=timedelta(hours=6),
            now=self._clock.now(),
            uniform=random.uniform,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="how many certificates are in the store")
    parser.add_argument("--rounds", type=int, default=15, help="sweeps per size")
    arguments = parser.parse_args()
    results = {}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(prefix="certorbit-bench-") as folder:
            results[str(size)] = asyncio.run(measure(Path(folder) / "sweep.db", size=size, rounds=arguments.rounds))
        print(f"{size:>9,} certificates: {results[str(size)]}", flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Written: {RESULTS.relative_to(ROOT)}")


async def measure(path: Path, *, size: int, rounds: int) -> dict[str, float]:
    engine = make_engine(f"sqlite:///{path}")
    migrate(engine)
    clock = BenchClock()
    store = SQLStore(engine, clock=clock, chance=BenchChance())
    fill(store, size=size)
    issuer = BenchIssuer(clock)
    renewal = Renewal(
        store=store,
        issuers=[issuer],  # type: ignore[list-item]
        clock=clock,
        chance=BenchChance(),
        rules=RenewalRules(),
        start=refuse,
    )
    uids = [f"u{number:07}" for number in random.Random(size).sample(range(size), DUE)]
    sweeps = [await time_sweep(store, renewal, clock, uids=uids) for _ in range(rounds + 1)][1:]
    if issuer.asked != DUE * (rounds + 1):
        raise RuntimeError(f"{issuer.asked} windows were asked for, and not {DUE} per sweep.")
    decisions = [await time_decision(store, uid, now=clock.now()) for uid in uids]
    await store.close()
    return {
        "sweep_ms": round(1e3 * statistics.median(sweeps), 2),
        "decision_us": round(1e6 * statistics.median(decisions), 1),
        "due": DUE,
    }


def refuse(*_: object) -> object:
    raise RuntimeError("Nothing is to be issued here.")


def fill(store: SQLStore, *, size: int) -> None:
    """Write so many entries, each with a version and a schedule, none of them due."""
    instants = {
        "now": NOW,
        "later": NOW + timedelta(days=300),
        "begin": NOW - timedelta(days=10),
        "end": NOW + timedelta(days=80),
    }
    texts = {name: instant.isoformat(timespec="microseconds") for name, instant in instants.items()}
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO configurations VALUES ('bench', '', 1, '{texts['now']}')")
        for table, values in (("entries", _ENTRY), ("versions", _VERSION), ("renewals", _SCHEDULE)):
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute(_FILL.format(size=size, table=table, values=values.format(**texts)))


async def time_sweep(store: SQLStore, renewal: Renewal, clock: BenchClock, *, uids: Sequence[str]) -> float:
    """Make the entries due, without an answer of the CA, and sweep once. Returns: seconds."""
    clock.instant += INTERVAL
    with store.engine.begin() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        past = NOW.isoformat(timespec="microseconds")
        keys = [(uid,) for uid in uids]
        raw.executemany(f"UPDATE entries SET due_at = '{past}' WHERE uid = ?", keys)
        raw.executemany("UPDATE renewals SET info = NULL WHERE entry_uid = ?", keys)
        raw.executemany(
            f"UPDATE versions SET chain_pem = '{'x' * CHAIN_CHARACTERS}' WHERE id = 'v' || substr(?, 2)", keys
        )
    began = time.perf_counter()
    await renewal.sweep()
    return time.perf_counter() - began


async def time_decision(store: SQLStore, uid: str, *, now: datetime) -> float:
    """Read one entry and its schedule and decide. Returns: seconds."""
    began = time.perf_counter()
    entry, schedule = await store.read(
        lambda tx: (tx.entries.get_by_uid(EntryUID(uid)), tx.schedules.find(EntryUID(uid)))
    )
    if entry is None or entry.current is None or schedule is None:
        raise RuntimeError(f"The entry {uid} is not in the store.")
    decide(lifetime_of(entry.current.facts), info=schedule.info, now=now, rules=RenewalRules())
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

"""A simulated year in small (`make simulate` runs it in full), and that its audit would see what it looks for."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from audit import count_overruns
from run import CALM, START, STORMS, Simulation, quiet_logs
from world import NOTHING_HAPPENS, Meter, Weather

from certorbit.model.ca_limits import NO_LIMITS, LimitPolicy
from certorbit.model.limits import Rule, RuleName

RUN = Path(__file__).with_name("run.py")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet_logs():
        yield


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_in_a_year_of_trouble_nothing_expires_that_could_be_saved(tmp_path: Path) -> None:
    year = Simulation(tmp_path / "year.db", certificates=20, days=365, seed=1, sweep_every=timedelta(minutes=30))
    report = await year.run()
    assert (report.expired_savable, report.limit_overruns) == (0, 0)
    assert 0.9 * report.orders_needed <= report.orders <= 1.1 * report.orders_needed
    assert sum(ca.refusals_by_limit for ca in year.cas) == 0, "our limits hold before the CA's do"
    assert year.world.kills > 20
    assert all(ca.orders_made > 100 for ca in year.cas), "both are used"


@pytest.mark.slow
async def test_in_storms_only_those_expire_that_nothing_could_save(tmp_path: Path) -> None:
    storms = Simulation(
        tmp_path / "year.db",
        certificates=10,
        days=120,
        seed=2,
        climates=STORMS,
        mix=(6,),
        sweep_every=timedelta(minutes=10),
    )
    report = await storms.run()
    assert (report.expired_savable, report.limit_overruns) == (0, 0)
    assert len(list(storms.find_expired())) > 5, "the weather was bad enough"


async def test_without_any_trouble_there_are_as_many_orders_as_needed(tmp_path: Path) -> None:
    quiet = Simulation(
        tmp_path / "year.db",
        certificates=3,
        days=365,
        seed=2,
        chances=NOTHING_HAPPENS,
        climates=CALM,
        sweep_every=timedelta(minutes=30),
    )
    report = await quiet.run()
    assert report.orders == pytest.approx(report.orders_needed, rel=0.03)
    assert not list(quiet.find_expired())


class Asleep(Simulation):
    """Nobody sweeps."""

    async def _sweep(self) -> None:
        return


async def test_the_audit_sees_certificates_that_could_have_been_saved(tmp_path: Path) -> None:
    asleep = Asleep(tmp_path / "year.db", certificates=6, days=120, seed=3, sweep_every=timedelta(days=1))
    report = await asleep.run()
    assert report.expired_savable == 6


@pytest.mark.parametrize(("down", "savable"), [(1, 6), (2, 0)], ids=["one-ca-down", "both-down"])
async def test_who_had_no_ca_left_was_beyond_help(tmp_path: Path, down: int, savable: int) -> None:
    dark = Asleep(tmp_path / "year.db", certificates=6, days=120, seed=4, climates=CALM, sweep_every=timedelta(days=1))
    for ca in dark.cas[:down]:
        ca.weather = Weather(down=[(START + timedelta(days=1), dark.year[1])])
    report = await dark.run()
    assert report.expired_savable == savable
    assert len(list(dark.find_expired())) == 6


class Reckless(Simulation):
    """Nobody asks for limits before ordering; the CAs enforce theirs."""

    @property
    def kept_policy(self) -> LimitPolicy:
        return NO_LIMITS


class Lawless(Reckless):
    """The CAs don't either."""

    @property
    def enforced_policy(self) -> LimitPolicy:
        return NO_LIMITS


@pytest.mark.parametrize(
    ("kind", "refused", "overrun"),
    [(Simulation, False, False), (Reckless, True, False), (Lawless, False, True)],
    ids=["limits-kept", "limits-enforced", "no-limits"],
)
async def test_the_audit_sees_limits_that_are_exceeded(
    tmp_path: Path, *, kind: type[Simulation], refused: bool, overrun: bool
) -> None:
    """120 new certificates of two registered domains, at a CA that allows 50 per week and domain."""
    crowd = kind(tmp_path / "year.db", certificates=120, days=1, seed=5, chances=NOTHING_HAPPENS, climates=CALM)
    for name in crowd.names:
        crowd.chosen[name] = "first"
    report = await crowd.run()
    assert (sum(ca.refusals_by_limit for ca in crowd.cas) > 0) is refused
    assert (report.limit_overruns > 0) is overrun
    assert count_overruns(crowd.database, crowd.policy) == report.limit_overruns


def test_the_audits_bucket_is_the_count_in_every_window() -> None:
    random, rule = Random(6), Rule(RuleName.CERTIFICATES_PER_SET, 5, timedelta(seconds=40))
    meter, now = Meter(rule), START
    taken: list[datetime] = []
    for _ in range(600):
        now += timedelta(seconds=random.expovariate(1 / 30))
        # Every window that begins at an earlier request and ends now.
        counts = ((len(taken) - place + 1, now - earlier) for place, earlier in enumerate(taken))
        fits = all(count <= rule.capacity + length / rule.refill for count, length in counts)
        assert (meter.wait(now) == timedelta(0)) is fits
        if fits:
            meter.take(now)
            taken.append(now)
    assert 300 < len(taken) < 600


def test_the_command_prints_one_line_of_json() -> None:
    command = [sys.executable, str(RUN), "--certificates", "3", "--days", "10", "--seed", "7"]
    environment = {**os.environ, "PYTHONPATH": str(RUN.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert list(report) == ["certificates", "days", "orders", "orders_needed", "expired_savable", "limit_overruns"]
    assert (report["certificates"], report["days"]) == (3, 10)

"""Waiting for the name servers of a zone: two real BINDs, a primary and a secondary on another loopback address."""

import asyncio
from collections.abc import Iterator

import pytest

from certorbit.errors import SolverFailed
from certorbit.net.resolve import Resolution
from certorbit.solver_settings import DNSSolverSettings
from certorbit.solvers.propagation import Propagation
from e2e.bind import Bind, running_bind, start_bind
from e2e.service import wait_until
from fakes.clock import FakeChance, FakeClock

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with running_bind(tmp_path_factory.mktemp("primary"), {ZONE: []}) as running:
        yield running


@pytest.fixture(scope="module")
def secondary(primary: Bind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    """A secondary that nobody tells of changes: it has what was there when it started."""
    folder = tmp_path_factory.mktemp("secondary")
    running = start_bind(folder, {ZONE: []}, secondary_of=primary)
    wait_until((folder / f"{ZONE}.copy").exists, what="the zone's transfer")
    yield running
    running.stop()


def make_wait(primary: Bind, clock: FakeClock, **changes: object) -> Propagation:
    settings = DNSSolverSettings.model_validate({"propagation_seconds": 60, **changes})
    resolution = Resolution(resolvers=[primary.server], authority_port=primary.port)
    return Propagation(kind="memory", settings=settings, resolution=resolution, clock=clock, chance=FakeChance())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(auto_advance=True)


async def test_the_name_servers_of_the_zone_are_asked(primary: Bind, clock: FakeClock) -> None:
    name = f"_acme-challenge.one.{ZONE}"
    await asyncio.to_thread(primary.add_record, ZONE, name, "TXT", "foreign")
    waiting = asyncio.create_task(
        make_wait(primary, clock, propagation_seconds=3600).wait(name, frozenset({"a", "b"}), zone=ZONE)
    )
    for value in ("a", "b"):
        await asyncio.to_thread(primary.add_record, ZONE, name, "TXT", value)
    await waiting


async def test_every_name_server_has_to_show_the_value(primary: Bind, secondary: Bind, clock: FakeClock) -> None:
    await asyncio.to_thread(primary.add_record, ZONE, NAME, "TXT", "new-value")
    wait = make_wait(primary, clock, check_servers=[primary.server, secondary.server])
    with pytest.raises(SolverFailed, match=r"after 60 seconds not all name servers of the zone example\.com") as caught:
        await wait.wait(NAME, frozenset({"new-value"}), zone=ZONE)
    assert f"{secondary.server} (the value isn't there)" in caught.value.message
    assert primary.server not in caught.value.message
    assert sum(clock.slept) == pytest.approx(60)
    assert len(clock.slept) < 20, "the polls back off"


async def test_it_is_over_when_the_last_one_shows_it(primary: Bind, secondary: Bind, clock: FakeClock) -> None:
    name = f"_acme-challenge.two.{ZONE}"
    await asyncio.to_thread(primary.add_record, ZONE, name, "TXT", "value")
    servers = [primary.server, secondary.server]
    wait = make_wait(primary, clock, check_servers=servers)
    with pytest.raises(SolverFailed):
        await wait.wait(name, frozenset({"value"}), zone=ZONE)
    await asyncio.to_thread(secondary.stop)
    (secondary.directory / f"{ZONE}.copy").unlink()
    await asyncio.to_thread(secondary.launch)  # it fetches the zone anew
    await asyncio.to_thread(wait_until, lambda: secondary.read_txt(name), what="the zone's second transfer")
    await wait.wait(name, frozenset({"value"}), zone=ZONE)


async def test_a_name_server_that_has_no_answer_is_named(primary: Bind, clock: FakeClock) -> None:
    wait = make_wait(primary, clock, check_servers=[primary.server])
    with pytest.raises(SolverFailed, match=r"show it: 127\.0\.0\.1:\d+ \(no usable answer\)\. Check"):
        await wait.wait("_acme-challenge.other.test", frozenset({"v"}), zone="other.test")


async def test_a_plain_delay_asks_nobody(clock: FakeClock, primary: Bind) -> None:
    settings = DNSSolverSettings.model_validate({"wait_seconds": 42.5})
    wait = Propagation(
        kind="memory",
        settings=settings,
        resolution=Resolution(resolvers=["127.0.0.1:9"]),
        clock=clock,
        chance=FakeChance(),
    )
    await wait.wait(NAME, frozenset({"nowhere"}), zone=ZONE)
    assert clock.slept == [42.5]


async def test_name_servers_that_cannot_be_found_are_told(primary: Bind, clock: FakeClock) -> None:
    with pytest.raises(SolverFailed, match=r"can't find the name servers of the zone other\.test.*check_servers"):
        await make_wait(primary, clock).wait("_acme-challenge.other.test", frozenset({"v"}), zone="other.test")

"""DNS-01 over a provider in memory: names and values, one writer per name at a time, clean-up of exactly our own."""

import asyncio
from collections.abc import Callable

import pytest

from certorbit.errors import SolverFailed
from certorbit.model.identifiers import Identifier, IdentifierType, normalise_identifier
from certorbit.net.resolve import Resolution
from certorbit.ports.dns import DNSZoneWriter
from certorbit.ports.solver import Proof, Solver
from certorbit.solver_settings import DNSSolverSettings
from certorbit.solvers.dns01 import DNS01Solver, NameLocks, challenge_name, challenge_value
from certorbit.solvers.propagation import Propagation
from fakes.clock import FakeChance, FakeClock
from fakes.memory_dns import MemoryDNSWriter

ZONE = "example.com"
NAME = f"_acme-challenge.{ZONE}"
APEX = Proof(Identifier(IdentifierType.DNS, ZONE), "token-a", "token-a.thumbprint")
WILDCARD = Proof(Identifier(IdentifierType.DNS, ZONE), "token-w", "token-w.thumbprint")
OTHER = Proof(normalise_identifier(f"www.{ZONE}"), "token-o", "token-o.thumbprint")

MakeSolver = Callable[..., DNS01Solver]


@pytest.fixture
def make_solver(clock: FakeClock) -> MakeSolver:
    """Make solvers that ask no DNS: their zone is given and they don't wait."""
    all_locks = NameLocks()

    def make(writer: DNSZoneWriter, *, locks: NameLocks = all_locks, **changes: object) -> DNS01Solver:
        values = {"dns_zone": ZONE, "follow_cname": False, "wait_seconds": 0, **changes}
        settings = DNSSolverSettings.model_validate(values)
        resolution = Resolution(resolvers=["127.0.0.1:1"])
        propagation = Propagation(
            kind=writer.kind, settings=settings, resolution=resolution, clock=clock, chance=FakeChance()
        )
        return DNS01Solver(
            writer=writer, settings=settings, resolution=resolution, propagation=propagation, locks=locks
        )

    return make


def test_the_value_is_the_digest_of_the_key_authorization() -> None:
    # printf token-a.thumbprint | openssl dgst -sha256 -binary | basenc --base64url | tr -d =
    assert challenge_value(APEX) == "fiZ_FDN5EPzAaWspnz1nMJMybON9C6eL-IXV8yyf2jE"
    assert len(challenge_value(APEX)) == 43
    assert challenge_name(APEX) == NAME


def test_a_wildcard_has_the_name_of_its_domain() -> None:
    assert challenge_name(Proof(normalise_identifier(f"*.{ZONE}"), "t", "t.p")) == NAME


async def test_apex_and_wildcard_stand_at_one_name_and_only_ours_go(make_solver: MakeSolver) -> None:
    writer = MemoryDNSWriter()
    writer.values[NAME] = ["foreign"]
    solver: Solver = make_solver(writer)
    assert solver.challenge_type == "dns-01"
    for _ in range(2):  # presenting again is harmless
        await solver.present([APEX, WILDCARD, OTHER])
    assert sorted(writer.values[NAME]) == sorted(["foreign", challenge_value(APEX), challenge_value(WILDCARD)])
    assert writer.values[f"_acme-challenge.www.{ZONE}"] == [challenge_value(OTHER)]
    assert len(writer.waited) == len(writer.calls)
    for _ in range(2):  # so is cleaning up what is gone
        await solver.clean_up([APEX, WILDCARD, OTHER])
    assert writer.values[NAME] == ["foreign"]
    assert writer.values[f"_acme-challenge.www.{ZONE}"] == []


async def test_another_process_can_clean_up(make_solver: MakeSolver) -> None:
    writer = MemoryDNSWriter()
    await make_solver(writer).present([APEX])
    await make_solver(writer).clean_up([APEX])
    assert writer.values[NAME] == []


async def test_a_failure_is_raised_and_all_are_tried(make_solver: MakeSolver) -> None:
    writer = MemoryDNSWriter()
    solver = make_solver(writer)
    writer.problem = SolverFailed("The provider says no.", subject=ZONE)
    with pytest.raises(SolverFailed, match="says no"):
        await solver.present([APEX, WILDCARD, OTHER])
    with pytest.raises(SolverFailed, match="says no"):
        await solver.clean_up([APEX, WILDCARD, OTHER])
    assert [action for action, _, _ in writer.calls] == ["add"] * 3 + ["remove"] * 3


class SlowWriter(MemoryDNSWriter):
    """Holds every call until it is let go. busy: the names of the calls under way."""

    def __init__(self) -> None:
        super().__init__()
        self.busy: list[str] = []
        self.news = asyncio.Condition()
        self.go = asyncio.Event()

    async def add_txt(self, name: str, value: str, *, zone: str) -> str:
        async with self.news:
            self.busy.append(name)
            self.news.notify_all()
        await self.go.wait()
        self.busy.remove(name)
        return await super().add_txt(name, value, zone=zone)

    async def wait_busy(self, count: int) -> None:
        async with self.news:
            await self.news.wait_for(lambda: len(self.busy) >= count)


async def test_one_name_has_one_writer_at_a_time_over_all_solvers(make_solver: MakeSolver) -> None:
    writer = SlowWriter()
    works = [asyncio.create_task(make_solver(writer).present([proof])) for proof in (APEX, OTHER, WILDCARD)]
    await writer.wait_busy(2)
    assert sorted(writer.busy) == sorted([NAME, f"_acme-challenge.www.{ZONE}"])
    assert not works[2].done()
    writer.go.set()
    await asyncio.gather(*works)
    assert len(writer.values[NAME]) == 2


async def test_a_cancelled_write_ends_before_the_next_begins(make_solver: MakeSolver) -> None:
    writer = SlowWriter()
    solver = make_solver(writer)
    presenting = asyncio.create_task(solver.present([APEX]))
    await writer.wait_busy(1)
    presenting.cancel()
    cleaning = asyncio.create_task(solver.clean_up([APEX]))
    writer.go.set()
    await cleaning
    with pytest.raises(asyncio.CancelledError):
        await presenting
    assert [action for action, _, _ in writer.calls] == ["add", "remove"]
    assert writer.values[NAME] == []


@pytest.mark.parametrize(
    ("zone", "name", "covered"),
    [
        pytest.param("", "www.example.com", True, id="ok/everything"),
        pytest.param("example.com", "example.com", True, id="ok/the-zone-itself"),
        pytest.param("example.com", "a.b.example.com", True, id="ok/deep"),
        pytest.param("Example.COM.", "a.example.com", True, id="ok/as-people-write"),
        pytest.param("example.com", "notexample.com", False, id="refused/same-end"),
        pytest.param("a.example.com", "example.com", False, id="refused/parent"),
        pytest.param("", "192.0.2.1", False, id="refused/address"),
    ],
)
def test_which_names_are_covered(make_solver: MakeSolver, zone: str, name: str, *, covered: bool) -> None:
    solver = make_solver(MemoryDNSWriter(), zone=zone)
    for is_wildcard in (False, True):
        assert solver.covers(normalise_identifier(name), is_wildcard=is_wildcard) is covered

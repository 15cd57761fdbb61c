"""The contract of `ports.dns.DNSZoneWriter`, kept by every writer against the real other side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from certorbit.model.identifiers import Identifier, IdentifierType
from certorbit.net.resolve import Resolution
from certorbit.ports.dns import DNSZoneWriter
from certorbit.ports.solver import Proof
from certorbit.solver_settings import DNSSolverSettings
from certorbit.solvers.dns.registry import WRITERS
from certorbit.solvers.dns01 import DNS01Solver, NameLocks, challenge_value
from certorbit.solvers.propagation import Propagation
from contracts.dns_benches import BENCHES, ZONE, Bench
from fakes.clock import FakeChance, FakeClock

NAME = f"_acme-challenge.{ZONE}"
VALUES = [f"value-{letter}_{letter * 36}" for letter in "abcdef"]


def make_solver(writer: DNSZoneWriter, locks: NameLocks) -> DNS01Solver:
    """Return a solver that asks no DNS: its zone is given, and it doesn't wait."""
    settings = DNSSolverSettings(dns_zone=ZONE, follow_cname=False, wait_seconds=0)
    resolution = Resolution()
    propagation = Propagation(
        kind=writer.kind,
        settings=settings,
        resolution=resolution,
        clock=FakeClock(auto_advance=True),
        chance=FakeChance(),
    )
    return DNS01Solver(writer=writer, settings=settings, resolution=resolution, propagation=propagation, locks=locks)


@pytest.fixture(params=BENCHES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        made = await BENCHES[request.param](tmp_path, stack)
        yield made
        await made.writer.close()


def test_every_writer_is_here() -> None:
    assert set(WRITERS) < set(BENCHES)


async def test_a_value_is_there_after_it_was_added_and_gone_after_it_was_removed(bench: Bench) -> None:
    assert await bench.read(NAME) == set()
    reference = await bench.writer.add_txt(NAME, VALUES[0], zone=ZONE)
    await bench.writer.wait_applied(reference)
    assert await bench.read(NAME) == {VALUES[0]}
    await bench.writer.remove_txt(NAME, VALUES[0], zone=ZONE)
    assert await bench.read(NAME) == set()


async def test_two_values_stand_beside_each_other_and_go_one_by_one(bench: Bench) -> None:
    for value in VALUES[:3]:
        await bench.writer.add_txt(NAME, value, zone=ZONE)
    assert await bench.read(NAME) == set(VALUES[:3])
    await bench.writer.remove_txt(NAME, VALUES[0], zone=ZONE)
    assert await bench.read(NAME) == {VALUES[1], VALUES[2]}


async def test_what_somebody_else_wrote_stays(bench: Bench) -> None:
    await bench.write(NAME, "foreign-value")
    await bench.writer.add_txt(NAME, VALUES[0], zone=ZONE)
    assert await bench.read(NAME) == {"foreign-value", VALUES[0]}
    await bench.writer.remove_txt(NAME, VALUES[0], zone=ZONE)
    assert await bench.read(NAME) == {"foreign-value"}


async def test_adding_and_removing_twice_is_harmless(bench: Bench) -> None:
    await bench.write(NAME, "foreign-value")
    for _ in range(2):
        await bench.writer.add_txt(NAME, VALUES[0], zone=ZONE)
    assert await bench.read(NAME) == {"foreign-value", VALUES[0]}
    for _ in range(2):
        await bench.writer.remove_txt(NAME, VALUES[0], zone=ZONE)
    assert await bench.read(NAME) == {"foreign-value"}


async def test_removing_what_never_was_is_harmless(bench: Bench) -> None:
    await bench.writer.remove_txt(f"_acme-challenge.never.{ZONE}", VALUES[0], zone=ZONE)
    assert await bench.read(f"_acme-challenge.never.{ZONE}") == set()


async def test_several_names_are_written_at_once(bench: Bench) -> None:
    names = [f"_acme-challenge.host{number}.{ZONE}" for number in range(len(VALUES))]
    await asyncio.gather(
        *(bench.writer.add_txt(name, value, zone=ZONE) for name, value in zip(names, VALUES, strict=True))
    )
    assert [await bench.read(name) for name in names] == [{value} for value in VALUES]


async def test_names_near_by_are_left_alone(bench: Bench) -> None:
    near = [f"_acme-challenge.a.{ZONE}", f"_acme-challeng.{ZONE}", f"_acme-challenge-b.{ZONE}"]
    for name in near:
        await bench.write(name, "foreign-value")
    await bench.writer.add_txt(NAME, VALUES[0], zone=ZONE)
    await bench.writer.remove_txt(NAME, VALUES[0], zone=ZONE)
    assert [await bench.read(name) for name in near] == [{"foreign-value"}] * 3


async def test_many_solvers_at_one_name_lose_no_value(bench: Bench) -> None:
    """The solver's locks make the writes at one name follow each other, as for the apex and the wildcard of a zone."""
    await bench.write(NAME, "foreign-value")
    locks = NameLocks()
    solvers = [make_solver(bench.writer, locks) for _ in range(3)]
    proofs = [Proof(Identifier(IdentifierType.DNS, ZONE), token, f"{token}.print") for token in "abcdef"]
    values = {challenge_value(proof) for proof in proofs}
    await asyncio.gather(*(solver.present(proofs[at * 2 : at * 2 + 2]) for at, solver in enumerate(solvers)))
    assert await bench.read(NAME) == values | {"foreign-value"}
    await asyncio.gather(*(solver.clean_up(proofs[at * 2 : at * 2 + 2]) for at, solver in enumerate(solvers)))
    assert await bench.read(NAME) == {"foreign-value"}

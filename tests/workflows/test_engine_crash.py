"""Kill -9 and suspended machines: nothing is lost, and a finished step never runs twice.

CERTORBIT_KILLS sets how many kills each database gets (5 by default).
"""

import os
import random
from collections.abc import Iterator
from itertools import cycle

import pytest
import sqlalchemy as sa
from engine_parts import (
    Child,
    assert_no_finished_step_repeats,
    enqueue,
    job,
    make_engine,
    statuses,
)

from certorbit.ports.store import JobKind
from postgres import PostgresServer

pytestmark = pytest.mark.crash

KILLS = int(os.environ.get("CERTORBIT_KILLS", "5"))
OPERATIONS_PER_KILL = 4
STEPS = 4


@pytest.fixture
def children() -> Iterator[list[Child]]:
    """Whoever is in it is dead when the test ends."""
    alive: list[Child] = []
    yield alive
    for child in alive:
        child.kill()


def enqueue_operations(url: str, count: int) -> list[str]:
    """Enqueue issuances and deployments by turns."""
    engine = make_engine(url)
    names = [f"op{number}" for number in range(count)]
    enqueue(engine, url, *(job(name, kind=kind) for name, kind in zip(names, cycle(JobKind), strict=False)))
    engine.close()
    return names


def ends_of(lines: list[str]) -> set[str]:
    return {line.split()[1] for line in lines if line.startswith("end ")}


@pytest.mark.slow
@pytest.mark.timeout(120 + KILLS * 20)
def test_no_finished_step_repeats_and_nothing_is_lost_over_many_kills(
    empty_database_url: str, children: list[Child]
) -> None:
    names = enqueue_operations(empty_database_url, KILLS * OPERATIONS_PER_KILL)
    at_line = random.Random(KILLS)
    lines: list[str] = []
    for _ in range(KILLS):
        child = Child(empty_database_url, steps=STEPS)
        children.append(child)
        lines += child.read_until("ready")
        lines += [child.read() for _ in range(at_line.randint(1, OPERATIONS_PER_KILL * STEPS))]
        children.remove(child)
        lines += child.kill()
    assert ends_of(lines) < set(names), "the kills came too late to mean anything"

    child = Child(empty_database_url, steps=STEPS)
    children.append(child)
    while ends_of(lines) != set(names):
        line = child.read()
        assert line, "the last child died"
        lines.append(line)
    children.remove(child)
    lines += child.finish()

    assert_no_finished_step_repeats(lines)
    for name in names:
        for place in range(STEPS):
            assert f"done {name} 1 step{place}" in lines
    assert set(statuses(empty_database_url).values()) == {"SUCCESS"}
    assert not [line for line in lines if line.startswith("broken")]


def test_a_delay_survives_a_kill(empty_database_url: str, children: list[Child]) -> None:
    engine = make_engine(empty_database_url)
    enqueue(engine, empty_database_url, job("later", delay_seconds=3600), job("soon", delay_seconds=0.5))
    engine.close()
    doomed = Child(empty_database_url, hang_at=0)
    doomed.read_until("ready")
    doomed.kill()
    child = Child(empty_database_url)
    children.append(child)
    child.read_until("end soon 1")
    children.remove(child)
    child.finish()
    assert statuses(empty_database_url) == {"later.1": "DELAYED", "soon.1": "SUCCESS"}


def test_a_worker_takes_over_what_a_killed_one_held(postgres_url: str, children: list[Child]) -> None:
    names = enqueue_operations(postgres_url, 12)
    doomed = Child(postgres_url, in_flight=12, hang_at=2)
    lines = doomed.read_until("ready")
    while sum(line.endswith("step2") for line in lines) < len(names):
        lines.append(doomed.read())
    survivor = Child(postgres_url)
    children.append(survivor)
    survivor.read_until("ready")
    lines += doomed.kill()
    while ends_of(lines) != set(names):
        line = survivor.read()
        assert line, "the survivor died"
        lines.append(line)
    children.remove(survivor)
    lines += survivor.finish()
    assert_no_finished_step_repeats(lines)
    assert set(statuses(postgres_url).values()) == {"SUCCESS"}


def test_a_database_that_drops_all_connections_loses_and_repeats_nothing(
    postgres_server: PostgresServer, postgres_url: str, children: list[Child]
) -> None:
    names = enqueue_operations(postgres_url, 12)
    child = Child(postgres_url, step_seconds=0.02)
    children.append(child)
    lines = child.read_until("ready")
    database = sa.make_url(postgres_url).database or ""
    dropped = 0
    while ends_of(lines) != set(names):
        line = child.read()
        assert line, "the worker died"
        lines.append(line)
        if len(lines) % 25 == 0:
            dropped += postgres_server.terminate_connections(database)
    assert dropped > 3
    children.remove(child)
    lines += child.finish()
    assert_no_finished_step_repeats(lines)
    assert not [line for line in lines if line.startswith("broken")]
    assert set(statuses(postgres_url).values()) == {"SUCCESS"}


def test_a_suspended_worker_that_wakes_up_records_nothing_and_goes_on_anew(
    postgres_url: str, children: list[Child]
) -> None:
    names = enqueue_operations(postgres_url, 4)
    sleeper = Child(postgres_url, in_flight=4, step_seconds=0.3)
    children.append(sleeper)
    before = sleeper.read_until("ready")
    while sum(line.startswith("done") for line in before) < 4:
        before.append(sleeper.read())
    sleeper.suspend()

    other = Child(postgres_url, in_flight=4)
    children.append(other)
    taken: list[str] = []
    while ends_of(taken) != set(names):
        line = other.read()
        assert line, "the other worker died"
        taken.append(line)
    assert_no_finished_step_repeats(before + taken)
    children.remove(other)
    other.finish()

    engine = make_engine(postgres_url)
    enqueue(engine, postgres_url, job("later"))
    engine.close()
    sleeper.resume()
    after = sleeper.read_until("end later 1")  # it works again, under another name
    others = [line for line in after if " later " not in line]
    # Steps that it was in the middle of came to their end, but none of them counts, and no further one began.
    assert not [line for line in others if line.startswith(("done", "end", "broken"))]
    children.remove(sleeper)
    sleeper.finish()
    assert set(statuses(postgres_url).values()) == {"SUCCESS"}


def test_a_worker_stops_when_it_is_told_to_and_gives_its_work_back(
    empty_database_url: str, children: list[Child]
) -> None:
    enqueue_operations(empty_database_url, 3)
    child = Child(empty_database_url, hang_at=0, drain_seconds=0.0)
    child.read_until("ready")
    begun = {child.read() for _ in range(3)}
    assert begun == {f"begin op{number} 1 step0" for number in range(3)}
    assert child.finish()[-1] == "stopped"
    assert set(statuses(empty_database_url).values()) == {"ENQUEUED"}


def test_a_second_worker_process_on_one_sqlite_file_is_refused(sqlite_url: str, children: list[Child]) -> None:
    first = Child(sqlite_url)
    children.append(first)
    first.read_until("ready")
    second = Child(sqlite_url)
    assert second.read().startswith("refused Another worker (process ")
    second.finish()


def test_several_processes_may_prepare_one_database_at_once(empty_database_url: str) -> None:
    together = [Child(empty_database_url, only_prepare=True) for _ in range(4)]
    assert [child.finish()[-1:] for child in together] == [["ready"]] * 4
    assert statuses(empty_database_url) == {}

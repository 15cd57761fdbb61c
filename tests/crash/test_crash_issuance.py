"""kill -9 at and between all checkpoints of an issuance: nothing accepted is lost, nothing finished is done twice.

CERTORBIT_KILLS sets the number of kills per database (7 by default, 60 by `make test-crash`), CERTORBIT_CRASH_SEED
the choice of the moments.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from crash.clients import Clients
from crash.evidence import check_everything
from crash.nodes import Moment, Node, plan_moments, wait_for_first
from crash.scene import Scene, scene

KILLS = int(os.environ.get("CERTORBIT_KILLS", "7"))
SEED = int(os.environ.get("CERTORBIT_CRASH_SEED", "8555"))
BATCH = 4  # POSTs per life: each event comes at least as often
# What stands at the checkpoints and between them, in the order of an issuance.
STEPS = [
    "order.counted",
    "order.placed",
    "order.proving",
    "order.finalising",
    "order.collecting",
    "certificate.issued",
]
pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(240 + 12 * KILLS)]


def test_a_service_on_sqlite_keeps_its_word_through_kills(tmp_path: Path, tell: Callable[[str], None]) -> None:
    with scene(tmp_path) as stage:
        # While the one node is dead, the other one answers the CA's HTTP-01 requests from the same store.
        stage.add_node("serve", "--no-worker", answers_challenges=True).start()
        node = stage.add_node("serve")
        with stage.clients(node) as clients:
            moments = plan_moments(
                [*STEPS, "http.request", "worker.started"], kills=KILLS, most_occurrences=BATCH, seed=SEED
            )
            shake(stage, node, clients, moments, tell=tell)


def test_workers_on_postgresql_keep_their_word_through_kills(
    tmp_path: Path, postgres_url: str, tell: Callable[[str], None]
) -> None:
    with scene(tmp_path, database_url=postgres_url) as stage:
        api = stage.add_node("serve", "--no-worker", answers_challenges=True).start()
        node = stage.add_node("worker")
        with stage.clients(api) as clients:
            # A take-over comes only where work was left: after the kill at order.counted some always is.
            events = [STEPS[0], "worker.took_over", *STEPS[1:], "worker.started"]
            moments = plan_moments(events, kills=KILLS, most_occurrences=BATCH, seed=SEED)
            shake(stage, node, clients, moments, tell=tell)


def test_a_surviving_worker_takes_over_from_a_killed_one(
    tmp_path: Path, postgres_url: str, tell: Callable[[str], None]
) -> None:
    kills = max(len(STEPS), KILLS // 5)
    with scene(tmp_path, database_url=postgres_url) as stage:
        api = stage.add_node("serve", "--no-worker", answers_challenges=True).start()
        workers = [stage.add_node("worker").start(), stage.add_node("worker").start()]
        with stage.clients(api) as clients:
            started = monotonic()
            for moment in plan_moments(STEPS, kills=kills, most_occurrences=BATCH, seed=SEED):
                clients.ask(2 * BATCH)
                victim = wait_for_first(workers, moment.event, count=moment.occurrence)
                victim.kill_at(moment)
                clients.acknowledged()
                stage.wait_until_settled()  # by the survivor alone
                victim.start()
            acknowledged = clients.acknowledged()
        evidence = stage.end()
        tell(evidence.summary(kills=kills, seconds=round(monotonic() - started, 1)))
        check_everything(evidence, acknowledged=acknowledged, keyring=stage.keyring())
        assert [line for line in evidence.log if line.get("event") == "worker.took_over"]


def shake(
    stage: Scene,
    node: Node,
    clients: Clients,
    moments: Iterator[Moment],
    *,
    tell: Callable[[str], None],
) -> None:
    """Start and kill in turns while clients ask for certificates; at the end check all promises."""
    started = monotonic()
    kills = 0
    for moment in moments:
        node.start()
        clients.ask(BATCH)
        node.kill_at(moment)
        kills += 1
    node.start()
    acknowledged = clients.acknowledged()
    stage.wait_until_settled()
    evidence = stage.end()
    seconds = round(monotonic() - started, 1)
    tell(evidence.summary(kills=kills, seconds=seconds, **{"POSTs repeated": clients.repeats()}))
    check_everything(evidence, acknowledged=acknowledged, keyring=stage.keyring())
    assert len(acknowledged) == kills * BATCH
    if kills >= 20:
        assert evidence.begun_again() > 0, "no kill met a step under way: the test shows nothing"

"""PostgreSQL restarts under load; a worker's machine sleeps for longer than its heartbeat may be missed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from crash.clients import Clients
from crash.evidence import STEP_OF, Evidence, check_everything
from crash.nodes import Node, wait_for_first
from crash.scene import TTL_SECONDS, scene
from postgres import run_postgres

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(400)]
BATCH = 6


def test_a_restart_of_postgresql_in_the_middle_of_a_batch_loses_and_repeats_nothing(
    tmp_path: Path, tell: Callable[[str], None]
) -> None:
    with run_postgres() as server:
        url = server.url(server.create_database())
        with scene(tmp_path, database_url=url) as stage:
            api = stage.add_node("serve", "--no-worker", answers_challenges=True).start()
            workers = [stage.add_node("worker").start(), stage.add_node("worker").start()]
            with stage.clients(api) as clients:
                for number, event in enumerate(["order.counted", "order.proving", "order.collecting"], start=1):
                    clients.ask(2 * BATCH)
                    wait_for_first(workers, event, count=number)
                    server.restart()
                acknowledged = clients.acknowledged()
            stage.wait_until_settled()
            assert all(node.is_running for node in stage.nodes)
            evidence = stage.end()
            tell(evidence.summary(restarts=3))
            # While the store is away nobody can answer the CA's HTTP-01 look-ups: such an attempt fails, is recorded,
            # and the next one, a minute later, succeeds.
            check_everything(evidence, acknowledged=acknowledged, keyring=stage.keyring(), may_fail=True)


@pytest.mark.parametrize("event", ["order.counted", "order.proving", "order.finalising", "order.collecting"])
def test_a_worker_that_slept_for_longer_than_its_ttl_does_no_harm_when_it_wakes(
    tmp_path: Path, postgres_url: str, event: str
) -> None:
    with scene(tmp_path, database_url=postgres_url) as stage:
        api = stage.add_node("serve", "--no-worker", answers_challenges=True).start()
        sleeper = stage.add_node("worker").start()
        with stage.clients(api) as clients:
            put_to_sleep(sleeper, event, clients=clients)
            survivor = stage.add_node("worker").start()
            survivor.wait_here("worker.took_over")
            clients.acknowledged()
            stage.wait_until_settled()
            sleeper.resume()
            sleeper.wait_here("worker.started", count=2)  # it goes on, under another name
            survivor.end()
            clients.ask(BATCH)
            acknowledged = clients.acknowledged()
        stage.wait_until_settled()
        evidence = forget_last_words(stage.end(), sleeper)
        check_everything(evidence, acknowledged=acknowledged, keyring=stage.keyring())


def test_a_worker_that_wakes_while_another_one_goes_on_with_its_order_does_no_harm(
    tmp_path: Path, postgres_url: str
) -> None:
    with scene(tmp_path, database_url=postgres_url) as stage:
        api = stage.add_node("serve", "--no-worker", answers_challenges=True).start()
        sleeper = stage.add_node("worker").start()
        with stage.clients(api) as clients:
            # It has no account yet: the order is counted, and will be asked for only when it wakes.
            put_to_sleep(sleeper, "order.counted", clients=clients)
            survivor = stage.add_node("worker").start()
            survivor.wait_here("order.proving")
            sleeper.resume()
            sleeper.wait_here("worker.started", count=2)
            acknowledged = clients.acknowledged()
        stage.wait_until_settled()
        evidence = forget_last_words(stage.end(), sleeper)
        check_everything(evidence, acknowledged=acknowledged, keyring=stage.keyring())


def put_to_sleep(worker: Node, event: str, *, clients: Clients) -> None:
    """Suspend the worker at the event of its only issuance: then it holds no lock, for it waits for the CA.

    One that is suspended within a transaction keeps its rows locked until PostgreSQL ends it (a minute).
    """
    clients.ask(1)
    worker.wait_here(event)
    worker.suspend()


def forget_last_words(evidence: Evidence, sleeper: Node) -> Evidence:
    """Check what the worker said between waking and learning that it is dead; return the evidence without it.

    The step that it was in when it fell asleep may say its word late. Another one must not begin.
    """
    events = [line.get("event") for line in sleeper.lines]
    dead = events.index("worker.declared_dead")
    died_at = datetime.fromisoformat(sleeper.lines[dead]["timestamp"])
    awake = dead
    while died_at - datetime.fromisoformat(sleeper.lines[awake - 1]["timestamp"]) < timedelta(seconds=TTL_SECONDS / 3):
        awake -= 1
    last_words = sleeper.lines[awake:dead]
    assert sum(line["event"] in STEP_OF for line in last_words) <= 1, last_words
    return replace(evidence, log=[line for line in evidence.log if line not in last_words])

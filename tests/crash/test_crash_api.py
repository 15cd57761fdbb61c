"""The API's process dies with a request in it: what the client then knows, and what a repeat leads to."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

from crash.clients import name_of
from crash.evidence import check_everything
from crash.nodes import PATIENCE, Node
from crash.scene import scene
from e2e.service import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(400)]
IDS = ["crash-0", "crash-1", "crash-2"]


def test_a_post_that_is_cut_after_its_commit_is_repeated_without_harm_on_sqlite(tmp_path: Path) -> None:
    with scene(tmp_path) as stage:
        stage.add_node("serve", "--no-worker", answers_challenges=True).start()
        node = stage.add_node("serve", wait=25.0)
        for entry_id, event in zip(IDS, ["order.counted", "order.proving", "order.collecting"], strict=True):
            node.start()
            with posting(node, entry_id) as post:
                node.wait_here(event)  # only what was committed is worked on
                node.kill()
                assert_cut_off(post)
            node.start()
            assert node.client.generate(entry_id, name_of(entry_id)).status == 201
            assert [one["state"] for one in node.client.operations(entry_id)] == ["succeeded"]
            stage.wait_until_settled()
            node.kill()
        check_everything(stage.end(), acknowledged={one: name_of(one) for one in IDS}, keyring=stage.keyring())


def test_a_post_that_is_cut_after_its_commit_is_repeated_without_harm_on_postgresql(
    tmp_path: Path, postgres_url: str
) -> None:
    with scene(tmp_path, database_url=postgres_url) as stage:
        stage.add_node("serve", "--no-worker", answers_challenges=True).start()
        api = stage.add_node("serve", "--no-worker", wait=25.0)
        for entry_id in IDS:
            api.start()
            with posting(api, entry_id) as post:
                # No worker runs: the POST waits after its commit for as long as we like.
                wait_until(lambda entry_id=entry_id: stage.count_operations(entry_id), what="the POST commits")
                api.kill()
                assert_cut_off(post)
        worker = stage.add_node("worker").start()
        api.start()
        for entry_id in IDS:
            for _ in range(2):
                assert api.client.generate(entry_id, name_of(entry_id)).status == 201
            assert [one["state"] for one in api.client.operations(entry_id)] == ["succeeded"]
        stage.wait_until_settled()
        assert worker.is_running
        check_everything(stage.end(), acknowledged={one: name_of(one) for one in IDS}, keyring=stage.keyring())


def test_a_validation_that_fails_because_we_are_dead_is_a_recorded_failure(tmp_path: Path) -> None:
    """The one thing that a lone node can't do is answer the CA while it is dead; then the next attempt is written down."""
    with scene(tmp_path, pebble_settings={"PEBBLE_VA_SLEEPTIME": "4"}) as stage:  # 0 to 3 s before it looks
        node = stage.add_node("serve", answers_challenges=True).start()
        with stage.clients(node) as clients:
            clients.ask(6)
            acknowledged = clients.acknowledged()
        wait_until(lambda: stage.pebble.log_text().count("Starting 3 validations") >= 6, what="the CA begins to look")
        node.kill()
        wait_until(lambda: count_decided(stage.pebble.log_text()) >= 6, what="the CA has decided on all")
        node.start()
        operations = {}
        for entry_id in acknowledged:
            (operations[entry_id],) = wait_until(
                lambda entry_id=entry_id: [
                    one for one in node.client.operations(entry_id) if one["state"] in {"waiting", "succeeded"}
                ],
                seconds=PATIENCE,
                what=f"{entry_id} ends or waits",
            )
        failed = [one for one in operations.values() if one["state"] == "waiting"]
        assert failed, "the CA found us alive: the test shows nothing"
        for operation in failed:
            assert operation["promised"], operation
            assert operation["attempt"] == 1, operation
            assert operation["next_attempt_at"], operation
            assert "connection refused" in operation["problem"]["message"].lower(), operation
            assert node.client.certificate(operation["entry"]).status == 200, "the entry stays"


@contextmanager
def posting(node: Node, entry_id: str) -> Iterator["Future[int]"]:
    """Give the status of a POST that is under way in a thread."""
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(lambda: node.client.generate(entry_id, name_of(entry_id)).status)


def assert_cut_off(post: "Future[int]") -> None:
    with pytest.raises((OSError, HTTPException)):
        post.result(timeout=PATIENCE)


def count_decided(log: str) -> int:
    """Return on how many authorizations Pebble has decided, by its log."""
    return log.count("set INVALID") + log.count("set VALID")

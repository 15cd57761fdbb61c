"""kill -9 in the middle of roll-outs: what a listener serves is what is written down, and no client sees a gap.

CERTORBIT_KILLS sets the number of kills per database (6 by default), CERTORBIT_CRASH_SEED the choice of the moments.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

import pytest

from crash.deployment_scene import DeploymentScene, Handshakes, deployment_scene, insist
from crash.nodes import Moment, plan_moments
from e2e.balancer_client import NATIVE, BalancerClient
from e2e.service import BASE, wait_until

KILLS = int(os.environ.get("CERTORBIT_KILLS", "6"))
SEED = int(os.environ.get("CERTORBIT_CRASH_SEED", "8555"))
NAME = "crash.example.com"
ENTRY = "crash"
DEFAULTS = 3  # of the listeners have it as their default, the others by SNI
# What stands at the changes of a roll-out and between them; each comes for every listener.
STEPS = ["target.installed", "deployment.listener"]
pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(240 + 12 * KILLS)]

Tell = Callable[[str], None]


def choose_moments(kills: int, *, once: Sequence[str]) -> Iterator[Moment]:
    """Yield moments: two of three between the changes of listeners, the others at what comes once in a roll-out."""
    often = plan_moments(STEPS, kills=kills, most_occurrences=5, seed=SEED)
    seldom = plan_moments(once, kills=kills, most_occurrences=1, seed=SEED)
    for number in range(kills):
        yield next(seldom if number % 3 == 2 else often)


def begin(stage: DeploymentScene, api: BalancerClient) -> Handshakes:
    """Make the certificate, attach it everywhere, and let clients come."""
    assert api.client.generate(ENTRY, NAME).status == 201
    api.client.wait_issued(ENTRY)
    api.wait_listed(stage.listeners[-1])
    for number, listener in enumerate(stage.listeners):
        answer = api.attach(api.listener(listener), ENTRY, default=number < DEFAULTS)
        assert (answer.status, answer.body) == (200, b"")
    return stage.handshakes(NAME)


def renew(api: BalancerClient) -> str:
    """Ask for the next version, and return the operation's id. One that was cut off comes to its end first."""

    def ask() -> str | None:
        answer = insist(api, "POST", f"{NATIVE}/configs/prod/certificates/{ENTRY}/renew")
        if answer.status == 400 and "An attempt is under way" in answer.json["message"]:
            return None
        assert answer.status == 202, answer.body
        return str(answer.json["operation"])

    operation: str = wait_until(ask, what="a renewal begins")
    return operation


def check_end(
    stage: DeploymentScene, api: BalancerClient, seen: Handshakes, *, renewals: Sequence[str], kills: int, tell: Tell
) -> None:
    """Raise AssertionError unless every promise was kept."""
    for operation in renewals:
        assert api.client.operation(operation)["state"] == "succeeded", "a renewal was lost"
    versions = api.fingerprints(ENTRY)
    assert len(versions) == 1 + len(set(renewals)), "a certificate was lost, or issued twice"
    current, leaf = next(iter(versions.items()))
    check_deployments(api)
    rows = api.attachments(ENTRY)
    assert sorted(rows) == sorted(stage.listeners)
    for row in rows.values():
        assert (row["wanted"], row["stage"], row["version"], row["problem"]) == ("attached", "proven", current, None)
        assert row["proof"]["is_served"]
    check_served(stage, leaf)
    seen.stop()
    check_clients(seen, list(versions.values()))
    stage.edge.stop()
    stage.edge.start()
    check_served(stage, leaf)  # by the files alone
    copies = {path.name: path for path in Path(stage.edge.haproxy.directory).glob("*/prod.*.pem")}
    assert set(copies) == {f"prod.{ENTRY}.pem"}
    changes = Counter(len(leaves) - 1 for leaves in seen.leaves.values())
    tell(
        f"kills {kills}, versions {len(versions)}, handshakes {seen.count}, failed {len(seen.failures)}, swaps {changes}"
    )


def check_deployments(api: BalancerClient) -> None:
    """All deployments came to their end, and each listener's part of them too."""
    answer = api.client.get(f"{NATIVE}/deployments?limit=500")
    assert answer.status == 200
    assert answer.json["next_cursor"] is None
    for deployment in answer.json["items"]:
        assert (deployment["state"], deployment["problem"]) == ("succeeded", None), deployment
        assert {row["stage"] for row in deployment["listeners"]} <= {"proven", "detached"}, deployment


def check_served(stage: DeploymentScene, leaf: str) -> None:
    for number, listener in enumerate(stage.listeners):
        assert stage.edge.served(listener, NAME) == leaf
        if number < DEFAULTS:
            assert stage.edge.served(listener) == leaf


def check_clients(seen: Handshakes, versions: Sequence[str]) -> None:
    """No handshake failed, and no listener ever went back to an older version. versions: leaves, newest first."""
    assert seen.failures == []
    ages = {leaf: age for age, leaf in enumerate(versions)}
    for listener, leaves in seen.leaves.items():
        strangers = [leaf for leaf in leaves if leaf not in ages]
        assert not strangers, f"{listener} served what was never ours: {strangers}"
        order = [ages[leaf] for leaf in leaves]
        assert order == sorted(order, reverse=True), f"{listener} went back: {order}"
        assert order[-1] == 0


def test_roll_outs_on_sqlite_come_to_their_end_through_kills(tmp_path: Path, tell: Tell) -> None:
    with deployment_scene(tmp_path) as stage:
        node = stage.add_node("serve").start()
        api = BalancerClient(node.client)
        seen = begin(stage, api)
        node.kill()
        renewals = []
        for moment in choose_moments(KILLS, once=["certificate.issued", "worker.started", "deployment.finished"]):
            node.start()
            renewals.append(renew(api))
            node.kill_at(moment)
        node.start()
        stage.wait_until_settled()
        check_end(stage, api, seen, renewals=renewals, kills=KILLS, tell=tell)


def test_roll_outs_on_postgresql_are_taken_over_by_the_other_worker(
    tmp_path: Path, postgres_url: str, tell: Tell
) -> None:
    with deployment_scene(tmp_path, database_url=postgres_url) as stage:
        api = BalancerClient(stage.add_node("serve", "--no-worker").start().client)
        workers = [stage.add_node("worker").start(), stage.add_node("worker").start()]
        seen = begin(stage, api)
        renewals = []
        started = monotonic()
        for moment in choose_moments(KILLS, once=["certificate.issued", "deployment.finished"]):
            since = {worker.name: len(worker.lines) for worker in workers}
            renewals.append(renew(api))
            victim = stage.wait_for_any(workers, moment, since=since)
            stage.kill_after(victim, moment.delay)
            victim.start()
        stage.wait_until_settled()
        tell(f"{monotonic() - started:.1f} s")
        check_end(stage, api, seen, renewals=renewals, kills=KILLS, tell=tell)
        assert [line for worker in workers for line in worker.lines if line.get("event") == "worker.took_over"]


def test_a_hand_over_to_another_certificate_survives_kills(tmp_path: Path, tell: Tell) -> None:
    """`replace_cert_id` there and back: defaults are switched, others join the SNI lists and leave them."""
    kills = max(4, KILLS // 3)
    events = ["target.default_set", "target.attached", "deployment.listener"]
    with deployment_scene(tmp_path) as stage:
        node = stage.add_node("serve").start()
        api = BalancerClient(node.client)
        assert api.client.generate("other", NAME).status == 201
        api.client.wait_issued("other")
        seen = begin(stage, api)
        node.kill()
        names = [ENTRY, "other"]
        for moment in plan_moments(events, kills=kills, most_occurrences=2, seed=SEED):
            node.start()
            stage.wait_until_settled()
            old, new = names
            answer = insist(api, "PUT", f"{BASE}/{new}?replace_cert_id={old}")
            assert (answer.status, answer.body) == (200, b"")
            node.kill_at(moment)
            names.reverse()
        node.start()
        stage.wait_until_settled()
        new, old = names
        check_deployments(api)
        assert api.attachments(old) == {}
        assert {row["stage"] for row in api.attachments(new).values()} == {"proven"}
        assert sorted(api.attachments(new)) == sorted(stage.listeners)
        (leaf,) = api.fingerprints(new).values()
        check_served(stage, leaf)
        seen.stop()
        assert seen.failures == []
        assert {one for leaves in seen.leaves.values() for one in leaves} <= {
            leaf,
            *api.fingerprints(old).values(),
        }
        assert insist(api, "DELETE", f"{BASE}/{old}").status == 200
        tell(f"kills {kills}, handshakes {seen.count}, failed {len(seen.failures)}")

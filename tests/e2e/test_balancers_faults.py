"""What goes wrong at the edge, through the real service: told clearly, never left half-done, and made good later."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from e2e.balancer_client import is_link_of
from e2e.balancer_scene import BalancerScene, balancer_scene, name_of
from e2e.edge import somebody_elses_server
from e2e.service import BASE, wait_until

CANARIES = ("https-1", "https-2", "https-3")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BalancerScene]:
    """One service for all tests of this module: each uses entries of its own."""
    with balancer_scene(tmp_path_factory.mktemp("faults"), listeners=6, crossed=CANARIES) as made:
        yield made


@pytest.fixture
def haproxy_is_back(scene: BalancerScene) -> Iterator[None]:
    """Start HAProxy again, however the test ends."""
    yield
    with suppress(OSError):
        if scene.edge.ask("show info"):
            return
    scene.edge.start()


def assert_nothing_is_left(scene: BalancerScene, entry_id: str, listener: str, *, held: list[str]) -> None:
    """Neither HAProxy nor the service has anything of an attachment that was refused."""
    assert scene.edge.held(listener) == held
    assert not scene.api.shows(scene.api.listener(listener), entry_id)
    assert scene.api.attachments(entry_id) == {}
    wait_until(lambda: scene.client.certificate(entry_id).json["links"] == [], what="the copy is gone")
    assert not list(Path(scene.edge.haproxy.directory).glob(f"*/*.{entry_id}.pem")), "its key is still on the disk"
    assert scene.client.delete(entry_id).status == 200, "nothing holds it"


def stages(deployment: dict[str, Any]) -> dict[str, str]:
    return {row["listener"]["listener"]: row["stage"] for row in deployment["listeners"]}


@pytest.mark.usefixtures("haproxy_is_back")
def test_attaching_while_haproxy_is_down_is_answered_with_the_reason_and_leaves_nothing(scene: BalancerScene) -> None:
    scene.generate("down")
    held = scene.edge.held("https-4")
    item = scene.api.listener("https-4")
    version = scene.client.get("/api/v4.3/conf/configs/prod").json["version"]
    scene.edge.stop()
    answer = scene.api.attach(item, "down")
    assert answer.status == 503
    assert "edge" in answer.json["message"]
    assert scene.edge.haproxy.socket in answer.json["message"]
    assert scene.client.get("/api/v4.3/conf/configs/prod").json["version"] == version
    assert scene.api.deployments("down") == {"total": 0, "items": [], "attachments": []}
    scene.edge.start()
    assert_nothing_is_left(scene, "down", "https-4", held=held)


@pytest.mark.usefixtures("haproxy_is_back")
def test_a_renewal_waits_for_haproxy_and_goes_on_when_it_is_told_to(scene: BalancerScene) -> None:
    old = scene.generate("waits")
    scene.attach("waits", "https-4", "https-5")
    done = scene.api.deployments("waits")["total"]
    scene.edge.stop()
    new = scene.renew("waits")
    waiting = scene.api.wait_deployment("waits", "waiting", count=done + 1)
    assert waiting["next_attempt_at"] is not None
    assert waiting["problem"]["type"] == "Unreachable"
    assert "0 of 2 listeners serve it, 2 failed" in waiting["problem"]["message"]
    assert stages(waiting) == {"https-4": "failed", "https-5": "failed"}
    assert {row["version"] for row in scene.api.attachments("waits").values()} == {
        version for version, leaf in scene.api.fingerprints("waits").items() if leaf == old
    }
    scene.edge.start()
    assert {scene.served(name, "waits") for name in ("https-4", "https-5")} == {old}
    answer = scene.api.deploy_now("waits")
    assert (answer.status, answer.json) == (202, {"operation": waiting["id"]})
    deployed = scene.api.wait_deployment("waits", "succeeded", count=done + 1)
    assert deployed["problem"] is None
    assert stages(deployed) == {"https-4": "proven", "https-5": "proven"}
    assert all(row["proof"]["is_served"] for row in deployed["listeners"])
    assert {scene.served(name, "waits") for name in ("https-4", "https-5")} == {new}


@pytest.mark.usefixtures("haproxy_is_back")
def test_haproxy_that_dies_in_the_middle_of_attaching_is_either_told_or_made_good(scene: BalancerScene) -> None:
    leaf = scene.generate("dies")
    item = scene.api.listener("https-4")
    installed = len(scene.service.events("target.installed"))
    # Whoever stops it comes between two calls of the service, or a moment too late: both ends must be true ones.
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(scene.api.attach, item, "dies")
        scene.service.wait_event("target.installed", count=installed + 1)
        scene.edge.stop()
        answer = put.result(timeout=60)
    scene.edge.start()
    if answer.status == 200:
        assert scene.api.deploy_now("dies").status == 202
        scene.api.wait_deployment("dies", "succeeded", count=scene.api.deployments("dies")["total"])
        assert scene.served("https-4", "dies") == leaf
        return
    assert answer.status == 400, answer.body
    assert not scene.api.shows(scene.api.listener("https-4"), "dies")
    assert scene.served("https-4", "dies") != leaf


@pytest.mark.parametrize("default", [False, True], ids=["by SNI", "as default"])
def test_a_listener_that_serves_something_else_gets_its_old_state_back(
    scene: BalancerScene, tmp_path_factory: pytest.TempPathFactory, *, default: bool
) -> None:
    entry_id = f"astray-{default}".lower()
    leaf = scene.generate(entry_id)
    item, held, served = scene.api.listener("https-1"), scene.edge.held("https-1"), scene.edge.served("https-1")
    with somebody_elses_server(tmp_path_factory.mktemp("else")) as port:
        scene.crossings["https-1"].leads_to = port
        try:
            answer = scene.api.attach(item, entry_id, default=default)
        finally:
            scene.crossings["https-1"].leads_to = scene.edge.port("https-1")
    assert (answer.status, answer.json["code"]) == (400, 400)
    assert f"does not serve '{entry_id}'" in answer.json["message"]
    assert f"instead of {leaf[:16]}" in answer.json["message"]
    assert str(scene.crossings["https-1"].port) in answer.json["message"]
    assert scene.edge.served("https-1") == served
    assert scene.served("https-1", entry_id) == served, "the default is served for its name again"
    assert scene.api.listener("https-1") == item
    (deployment,) = scene.api.deployments(entry_id)["items"]
    assert deployment["state"] == "failed"
    assert stages(deployment) == {"https-1": "rolled_back"}
    assert deployment["listeners"][0]["proof"]["is_served"] is False
    assert_nothing_is_left(scene, entry_id, "https-1", held=held)


def test_a_first_listener_that_does_not_serve_the_new_version_stops_the_rest(
    scene: BalancerScene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    old = scene.generate("canary")
    scene.attach("canary", *CANARIES)
    done = scene.api.deployments("canary")["total"]
    with somebody_elses_server(tmp_path_factory.mktemp("else")) as port:
        scene.crossings["https-1"].leads_to = port
        new = scene.renew("canary")
        # The old version can't be proven either while the address leads elsewhere: that is said, too.
        waiting = scene.api.wait_deployment("canary", "waiting", count=done + 1)
        scene.crossings["https-1"].leads_to = scene.edge.port("https-1")
    assert waiting["problem"]["type"] == "NotServed"
    assert waiting["problem"]["message"].startswith("0 of 3 listeners serve it, 1 unsettled, 2 were not changed.")
    assert stages(waiting) == {"https-1": "unsettled", "https-2": "pending", "https-3": "pending"}
    assert {scene.served(name, "canary") for name in CANARIES} == {old}
    assert scene.api.deploy_now("canary").status == 202
    deployed = scene.api.wait_deployment("canary", "succeeded", count=done + 1)
    assert stages(deployed) == dict.fromkeys(CANARIES, "proven")
    assert {scene.served(name, "canary") for name in CANARIES} == {new}


def test_replacing_moves_every_listener_and_frees_the_old_one(scene: BalancerScene) -> None:
    names = name_of("before"), name_of("after")  # the usual case: both are for the same names
    for entry_id in ("before", "after"):
        assert scene.client.generate(entry_id, *names).status == 201
        scene.client.wait_issued(entry_id)
    scene.attach("before", "https-5")
    scene.attach("before", "https-6", default=True)
    new = scene.fingerprint("after")
    answer = scene.client.request("PUT", f"{BASE}/after?replace_cert_id=before")
    assert (answer.status, answer.body) == (200, b"")
    wait_until(lambda: scene.api.attachments("before") == {}, what="the old one is off")
    assert {name: row["stage"] for name, row in scene.api.attachments("after").items()} == {
        "https-5": "proven",
        "https-6": "proven",
    }
    for name in names:
        assert scene.edge.served("https-5", name) == scene.edge.served("https-6", name) == new
    assert scene.edge.served("https-6") == new
    assert is_link_of(scene.api.listener("https-6")["default_certificate"], "after")
    for listener in ("https-5", "https-6"):
        assert not scene.api.shows(scene.api.listener(listener), "before")
        assert not [path for path in scene.edge.held(listener) if path.endswith("prod.before.pem")]
    assert scene.client.delete("before").status == 200


def test_reverting_a_configuration_brings_attachments_back(scene: BalancerScene) -> None:
    leaves = {entry_id: scene.generate(entry_id) for entry_id in ("kept", "gone")}
    scene.attach("kept", "https-5")
    scene.attach("gone", "https-5")
    number = int(scene.client.get("/api/v4.3/conf/configs/prod").json["version"])
    assert scene.api.detach(scene.api.listener("https-5"), "gone").status == 200
    assert scene.api.detach(scene.api.listener("https-5"), "kept").status == 200
    extra = scene.generate("extra")
    scene.attach("extra", "https-5")
    assert scene.edge.served("https-5", name_of("gone")) not in leaves.values()
    answer = scene.client.request("PUT", f"/api/v4.3/conf/configs/prod/versions/{number}/revert")
    assert (answer.status, answer.body) == (200, b"")
    for entry_id, leaf in leaves.items():
        wait_until(
            lambda entry_id=entry_id: scene.api.attachments(entry_id).get("https-5", {}).get("stage") == "proven",
            what=f"{entry_id} is back",
        )
        assert scene.served("https-5", entry_id) == leaf
    wait_until(lambda: scene.api.attachments("extra") == {}, what="what came later is off")
    assert scene.served("https-5", "extra") != extra

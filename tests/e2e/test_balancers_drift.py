"""Somebody else changes a listener: the look at it repairs or reports that, as the settings say."""

import re
from pathlib import Path

from e2e.balancer_scene import BalancerScene, balancer_scene
from e2e.service import wait_until

LOOK_MINUTES = 0.05
# A look that had seen the list before it was changed finds out by the handshake.
NEWS = r"https-1:\d+ does not (hold|serve) 'mine' any more"


def take_it_off(scene: BalancerScene, entry_id: str) -> None:
    (path,) = [held for held in scene.edge.held("https-1") if held.endswith(f"prod.{entry_id}.pem")]
    scene.edge.take_off("https-1", path)


def test_a_certificate_that_somebody_took_off_is_put_back(tmp_path: Path) -> None:
    with balancer_scene(tmp_path, listeners=1, deployment={"look_minutes": LOOK_MINUTES}) as scene:
        leaf = scene.generate("mine")
        scene.attach("mine", "https-1")
        done = scene.api.deployments("mine")["total"]
        take_it_off(scene, "mine")
        assert scene.served("https-1", "mine") != leaf
        wait_until(lambda: scene.served("https-1", "mine") == leaf, what="it is served again")
        scene.api.wait_deployment("mine", "succeeded", count=done + 1)
        assert scene.api.attachments("mine")["https-1"]["stage"] == "proven"
        drift = scene.service.wait_event("inventory.drift")
        assert re.search(NEWS, drift["message"])
        # The looks that follow find nothing: the certificate isn't put there over and over.
        looks = len(scene.service.events("inventory.drift"))
        proven_at = scene.api.attachments("mine")["https-1"]["proof"]["at"]
        wait_until(
            lambda: scene.api.attachments("mine")["https-1"]["proof"]["at"] > proven_at, what="it is looked at again"
        )
        assert len(scene.service.events("inventory.drift")) == looks
        assert scene.api.deployments("mine")["total"] == done + 1


def test_drift_is_only_shown_where_the_settings_say_so(tmp_path: Path) -> None:
    settings = {"look_minutes": LOOK_MINUTES, "drift": "report"}
    with balancer_scene(tmp_path, listeners=1, deployment=settings) as scene:
        leaf = scene.generate("mine")
        scene.attach("mine", "https-1")
        done = scene.api.deployments("mine")["total"]
        take_it_off(scene, "mine")
        wait_until(lambda: scene.api.attachments("mine")["https-1"]["stage"] == "drifted", what="it is shown")
        problem = scene.api.attachments("mine")["https-1"]["problem"]
        assert problem["type"] == "Drifted"
        assert re.search(NEWS, problem["message"])
        assert scene.api.deployments("mine")["total"] == done
        assert scene.served("https-1", "mine") != leaf
        assert scene.api.deploy_now("mine").status == 202
        scene.api.wait_deployment("mine", "succeeded", count=done + 1)
        assert scene.served("https-1", "mine") == leaf
        assert scene.api.attachments("mine")["https-1"]["problem"] is None

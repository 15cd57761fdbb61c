"""A certificate that is still being issued is attached: that is a promise, kept when it is there."""

from pathlib import Path

from e2e.balancer_client import BalancerClient
from e2e.balancer_scene import balancer_scene, name_of
from e2e.deployment import acme_environment
from e2e.fake_ca_thread import UNDECIDED, running_fake_ca
from e2e.service import wait_until


def test_what_is_attached_before_it_is_issued_is_served_when_it_is(tmp_path: Path) -> None:
    with running_fake_ca() as ca:
        ca.polls_before_decision = UNDECIDED
        environment = {**acme_environment(ca.directory_url), "CERTORBIT_ISSUANCE__WAIT": "0"}
        with balancer_scene(tmp_path, listeners=2, environment=environment) as scene:
            answer = scene.client.generate("later", name_of("later"))
            assert answer.status == 201, answer.body
            assert scene.client.certificate("later").json["cert_body"] == ""
            served = scene.edge.served("https-1")
            scene.attach("later", "https-1", default=True)
            scene.attach("later", "https-2")
            for listener, is_default in (("https-1", True), ("https-2", False)):
                item = scene.api.listener(listener)
                assert scene.api.shows(item, "later"), "a second look shows what was asked for"
                assert (item["default_certificate"] == "pending/later") is is_default
            assert {row["stage"] for row in scene.api.attachments("later").values()} == {"pending"}
            assert scene.edge.served("https-1") == served
            assert scene.client.delete("later").status == 400
            assert scene.api.deploy_now("later").json == {"operation": None}

            ca.polls_before_decision = 0
            scene.client.wait_issued("later")
            scene.api.wait_deployment("later", "succeeded")
            leaf = scene.fingerprint("later")
            assert scene.edge.served("https-1") == scene.served("https-2", "later") == leaf
            rows = scene.api.attachments("later")
            assert {name: row["stage"] for name, row in rows.items()} == {"https-1": "proven", "https-2": "proven"}
            assert rows["https-1"]["is_default"]
            shown = [scene.api.listener(name)["certificates"] for name in ("https-1", "https-2")]
            assert not [link for links in shown for link in links if link.startswith("pending/")]


def test_a_promise_is_taken_back_by_detaching(tmp_path: Path) -> None:
    with running_fake_ca() as ca:
        ca.polls_before_decision = UNDECIDED
        environment = {**acme_environment(ca.directory_url), "CERTORBIT_ISSUANCE__WAIT": "0"}
        with balancer_scene(tmp_path, listeners=1, environment=environment) as scene:
            api: BalancerClient = scene.api
            assert scene.client.generate("never", name_of("never")).status == 201
            before = api.listener("https-1")
            scene.attach("never", "https-1")
            answer = api.detach(api.listener("https-1"), "never")
            assert (answer.status, answer.body) == (200, b"")
            assert api.listener("https-1") == before
            wait_until(lambda: api.attachments("never") == {}, seconds=20, what="the promise is off")
            assert scene.client.delete("never").status == 200

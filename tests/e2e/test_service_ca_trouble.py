"""What becomes of a POST when the CA is away, slow, strict or out of its mind. Nobody loses what was promised."""

from datetime import UTC, datetime, timedelta

import pytest

from e2e.conftest import NewDeployment, OddSite, StartPebble
from e2e.deployment import acme_environment, pebble_environment
from e2e.fake_ca_thread import running_fake_ca
from e2e.pebble import EAB_HMAC_KEY, EAB_KID
from e2e.service import BASE, Client, free_port
from fakes.fake_ca import URN, Say
from fakes.fake_chains import ChainMaker, make_csr

HTML = Say(200, b"<html><h1>Welcome to nginx!</h1></html>", {"Content-Type": "text/html"})
MINUTE = timedelta(seconds=60)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def assert_promised(client: Client, entry_id: str, *, says: str, least_pause: timedelta = MINUTE) -> dict[str, object]:
    """Fail unless the entry is there without a certificate and its operation says why and until when it waits."""
    entry = client.certificate(entry_id).json
    assert (entry["cert_body"], entry["private_key"], entry["expires"]) == ("", "", None)
    listed = [item for item in client.certificates() if item["id"] == entry_id]
    assert [(item["cert_body"], item["expires"]) for item in listed] == [("", None)]
    answer = client.get(f"{BASE}/{entry_id}/pem")
    assert answer.status == 400
    assert "still being issued" in answer.json["message"]
    (operation,) = client.operations(entry_id)
    assert (operation["state"], operation["attempt"], operation["promised"]) == ("waiting", 1, True)
    assert operation["finished_at"] is None
    steps = client.operation(operation["id"])["steps"]
    assert steps[-1]["name"] == "conclude"
    assert instant(operation["next_attempt_at"]) >= instant(steps[-2]["finished_at"]) + least_pause
    problem: dict[str, object] = operation["problem"]
    assert says in str(problem["message"])
    return problem


def test_a_ca_that_is_down_is_waited_for_across_restarts(deploy: NewDeployment) -> None:
    port = free_port()
    deployment = deploy(acme_environment(f"http://127.0.0.1:{port}/dir"))
    service = deployment.serve()
    answer = service.client.generate("down", "down.example.com")
    assert (answer.status, answer.json) == (201, {"message": "Successfully created entry"})
    problem = assert_promised(service.client, "down", says="The CA acme can't be reached (connect 127.0.0.1)")
    assert (problem["type"], problem["retry"]) == ("Unreachable", "backoff")

    (before,) = service.client.operations("down")
    assert service.client.generate("down", "down.example.com").status == 201, "a repeat waits no longer either"
    assert service.client.operations("down") == [before]
    assert service.stop() == 0
    service.start()
    assert service.client.operations("down") == [before]
    assert service.client.certificate("down").json["cert_body"] == ""


def test_a_ca_whose_directory_is_rubbish_is_asked_again_later(deploy: NewDeployment) -> None:
    with running_fake_ca() as ca:
        client = deploy(acme_environment(ca.directory_url)).serve().client
        ca.script("directory", HTML)
        assert client.generate("early", "early.example.com").status == 201
        assert_promised(client, "early", says="The CA acme")
        assert client.generate("late", "late.example.com").status == 201
        assert client.certificate("late").json["san"] == ["late.example.com"], "the CA has come to its senses"
        assert ca.count("new-account") == ca.count("new-order") == 1


def test_a_ca_that_says_slow_down_gets_its_pause_and_one_order(odd_site: OddSite) -> None:
    odd_site.ca.script(
        "new-order", Say(429, {"type": URN + "rateLimited", "detail": "slow down"}, {"Retry-After": "2"})
    )
    assert odd_site.client.generate("slow-down", "slow-down.example.com").status == 201
    assert odd_site.client.certificate("slow-down").json["san"] == ["slow-down.example.com"]
    (operation,) = odd_site.client.operations("slow-down")
    assert (operation["state"], operation["attempt"], operation["promised"]) == ("succeeded", 2, False)
    steps = odd_site.client.operation(operation["id"])["steps"]
    assert [(step["attempt"], step["name"]) for step in steps] == [
        (1, "place_order"),
        (1, "conclude"),
        (2, "place_order"),
        (2, "prove"),
        (2, "finalise"),
        (2, "store"),
    ]
    problem = steps[0]["outcome"]["problem"]
    assert problem["type"] == URN + "rateLimited"
    assert instant(problem["retry_at"]) > instant(steps[0]["started_at"])
    assert instant(steps[2]["started_at"]) >= instant(problem["retry_at"]) - timedelta(milliseconds=1)
    assert len(odd_site.orders_for("slow-down.example.com")) == 1


def test_a_long_pause_is_not_waited_for_by_the_client(odd_site: OddSite) -> None:
    limit = {"type": URN + "rateLimited", "detail": "too many certificates already issued"}
    odd_site.ca.script("new-order", Say(429, limit, {"Retry-After": "7200"}))
    assert odd_site.client.generate("long-pause", "long-pause.example.com").status == 201
    problem = assert_promised(
        odd_site.client,
        "long-pause",
        says="too many certificates already issued",
        least_pause=timedelta(seconds=7190),
    )
    assert (problem["type"], problem["retry"]) == (URN + "rateLimited", "at")


def test_an_order_whose_answer_was_lost_is_found_again_and_not_asked_for_twice(odd_site: OddSite) -> None:
    odd_site.ca.script("new-order", Say(503, b"", {"Retry-After": "1"}, then_as_usual=True))
    assert odd_site.client.generate("lost-answer", "lost-answer.example.com").status == 201
    assert odd_site.client.certificate("lost-answer").json["san"] == ["lost-answer.example.com"]
    (operation,) = odd_site.client.operations("lost-answer")
    assert (operation["state"], operation["attempt"]) == ("succeeded", 2)
    assert len(odd_site.orders_for("lost-answer.example.com")) == 1


@pytest.mark.parametrize(
    ("door", "said", "says"),
    [
        pytest.param("new-order", HTML, "The CA acme", id="order"),
        pytest.param("new-order", Say(201, {"status": 7}), "no Location", id="order-without-location"),
        pytest.param("authz", HTML, "The CA acme", id="authorization"),
        pytest.param("cert", HTML, "The CA acme", id="chain"),
        pytest.param(
            "cert", Say(200, ChainMaker("Odd").issue(make_csr("other.example.com"))), "other.example.com", id="names"
        ),
    ],
)
def test_rubbish_is_recorded_and_tried_again_later(
    odd_site: OddSite, request: pytest.FixtureRequest, door: str, said: Say, says: str
) -> None:
    entry_id = f"rubbish-{request.node.callspec.id.split('-', 1)[1]}"
    odd_site.ca.script(door, said)
    assert odd_site.client.generate(entry_id, f"{entry_id}.example.com").status == 201
    assert_promised(odd_site.client, entry_id, says=says)


def test_rubbish_to_the_certificate_request_hides_nothing_because_the_order_itself_is_looked_at(
    odd_site: OddSite,
) -> None:
    odd_site.ca.script("finalize", Say(200, {"status": ["valid"]}, then_as_usual=True))
    assert odd_site.client.generate("odd-request", "odd-request.example.com").status == 201
    (operation,) = odd_site.client.operations("odd-request")
    assert (operation["state"], operation["attempt"]) == ("succeeded", 1)
    assert len(odd_site.orders_for("odd-request.example.com")) == 1


def test_a_chain_for_another_key_is_no_certificate(odd_site: OddSite) -> None:
    odd_site.ca.script("cert", Say(200, ChainMaker("Odd").issue(make_csr("other-key.example.com"))))
    assert odd_site.client.generate("other-key", "other-key.example.com").status == 201
    problem = assert_promised(odd_site.client, "other-key", says="another key than our request")
    assert problem["type"] == "BadIssue"


def test_a_ca_that_wants_an_account_binding_says_so_and_gets_it(deploy: NewDeployment, new_pebble: StartPebble) -> None:
    pebble = new_pebble(eab=True)
    without = deploy(pebble_environment(pebble))
    client = without.serve(http01_port=pebble.http01_port).client
    answer = client.generate("unbound", "unbound.example.com")
    assert answer.status == 400
    assert "externalAccountRequired" in answer.json["message"]
    assert "'externalAccountBinding' field" in answer.json["message"], "the CA's own words"
    assert "eab_kid" in answer.json["message"], "and what to do"
    assert client.certificate("unbound").status == 404
    assert pebble.count_new_orders() == 0
    without.close()

    binding = {"CERTORBIT_ACME_EAB_KID": EAB_KID, "CERTORBIT_ACME_EAB_HMAC_KEY": EAB_HMAC_KEY}
    bound = deploy({**pebble_environment(pebble), **binding})
    bound.secrets.add(EAB_HMAC_KEY)
    client = bound.serve(http01_port=pebble.http01_port).client
    assert client.generate("bound", "bound.example.com").status == 201
    assert client.certificate("bound").json["san"] == ["bound.example.com"]

"""Repeated, contradicting and withdrawn requests while an issuance is under way. The CA decides when the test says."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from e2e.conftest import OddSite, Site
from e2e.fake_ca_thread import UNDECIDED
from e2e.service import Client, wait_until

ORDERED = [("place_order", "done")]


def outcomes(client: Client, operation_id: str) -> list[tuple[str, str]]:
    steps = client.operation(operation_id)["steps"]
    return [(step["name"], step["outcome"]["outcome"]) for step in steps]


@contextmanager
def undecided(site: OddSite) -> Iterator[None]:
    """The CA doesn't decide on challenges within the block."""
    site.ca.polls_before_decision = UNDECIDED
    yield
    site.ca.polls_before_decision = 0


def wait_ordered(client: Client, entry_id: str) -> str:
    """Return the id of the entry's newest operation once it has its order."""

    def find() -> str | None:
        for operation in client.operations(entry_id)[:1]:
            if outcomes(client, operation["id"]) == ORDERED:
                return str(operation["id"])
        return None

    return str(wait_until(find, what=f"{entry_id} has its order"))


def test_a_post_that_does_not_wait_is_answered_at_once_and_the_entry_fills_in_by_itself(odd_site: OddSite) -> None:
    with undecided(odd_site):
        assert odd_site.hasty.generate("hasty", "hasty.example.com").status == 201
        entry = odd_site.hasty.certificate("hasty").json
        assert (entry["cert_body"], entry["private_key"], entry["expires"]) == ("", "", None)
        operation_id = wait_ordered(odd_site.hasty, "hasty")
        assert odd_site.hasty.operation(operation_id)["promised"]
    odd_site.hasty.wait_issued("hasty")
    entry = odd_site.client.certificate("hasty").json
    assert entry["san"] == ["hasty.example.com"]
    assert entry["private_key"].startswith("-----BEGIN PRIVATE KEY-----")


def test_a_repeated_post_joins_the_issuance_and_starts_none(odd_site: OddSite) -> None:
    with undecided(odd_site):
        assert odd_site.hasty.generate("again", "a.again.example.com", "b.again.example.com").status == 201
        operation_id = wait_ordered(odd_site.hasty, "again")
        for names in (("a.again.example.com", "b.again.example.com"), ("B.again.example.com", "a.again.example.com")):
            assert odd_site.hasty.generate("again", *names).status == 201
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(odd_site.client.generate, "again", "a.again.example.com", "b.again.example.com")
            odd_site.ca.polls_before_decision = 0
            assert waiting.result().status == 201
    issued = odd_site.client.certificate("again").json
    assert sorted(issued["san"]) == ["a.again.example.com", "b.again.example.com"]
    assert odd_site.client.generate("again", "a.again.example.com", "b.again.example.com").status == 201
    assert odd_site.client.certificate("again").json == issued
    assert [operation["id"] for operation in odd_site.client.operations("again")] == [operation_id]
    assert len(odd_site.orders_for("a.again.example.com")) == 1


def test_the_same_id_with_other_input_is_a_conflict_before_and_after_the_end(odd_site: OddSite) -> None:
    with undecided(odd_site):
        assert odd_site.hasty.generate("taken", "taken.example.com").status == 201
        wait_ordered(odd_site.hasty, "taken")
        assert odd_site.client.generate("taken", "other.example.com").status == 409
    odd_site.client.wait_issued("taken")
    issued = odd_site.client.certificate("taken").json
    for answer in (
        odd_site.client.generate("taken", "other.example.com"),
        odd_site.client.generate("taken", "taken.example.com", "other.example.com"),
        odd_site.client.generate("taken", "taken.example.com", le_auto_renew=False),
        odd_site.client.upload("taken", issued["cert_body"], issued["private_key"]),
    ):
        assert answer.status == 409
        assert answer.json["code"] == 409
        assert "'taken'" in answer.json["message"]
    assert odd_site.client.certificate("taken").json == issued
    assert len(odd_site.client.operations("taken")) == 1


def test_a_deleted_entry_cancels_its_issuance_and_nothing_is_stored_later(odd_site: OddSite) -> None:
    with undecided(odd_site):
        assert odd_site.hasty.generate("gone", "gone.example.com").status == 201
        operation_id = wait_ordered(odd_site.hasty, "gone")
        assert odd_site.client.delete("gone").status == 200
        assert odd_site.client.certificate("gone").status == 404
        assert odd_site.client.delete("gone").status == 404
        cancelled = odd_site.client.operation(operation_id)
        assert (cancelled["state"], cancelled["next_attempt_at"]) == ("cancelled", None)
    ended = [*ORDERED, ("prove", "done"), ("finalise", "cancelled")]
    wait_until(lambda: outcomes(odd_site.client, operation_id) == ended, what="the workflow's end")
    assert odd_site.client.operation(operation_id)["state"] == "cancelled"
    assert odd_site.client.certificate("gone").status == 404
    (order,) = odd_site.orders_for("gone.example.com")
    assert "certificate" not in order, "none was made that nobody would keep"
    assert odd_site.client.generate("gone", "other.gone.example.com").status == 201, "the id is free again"
    assert odd_site.client.certificate("gone").json["san"] == ["other.gone.example.com"]


def test_a_post_that_waits_is_told_that_its_entry_was_deleted(odd_site: OddSite) -> None:
    with undecided(odd_site), ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(odd_site.client.generate, "withdrawn", "withdrawn.example.com")
        wait_ordered(odd_site.hasty, "withdrawn")
        assert odd_site.hasty.delete("withdrawn").status == 200
        answer = waiting.result()
    assert answer.status == 400
    assert "was deleted while it was being issued" in answer.json["message"]


def test_what_was_promised_stays_when_the_ca_refuses_and_is_tried_again(odd_site: OddSite) -> None:
    refusal = {"type": "urn:ietf:params:acme:error:dns", "detail": "no such host"}
    with undecided(odd_site):
        assert odd_site.hasty.generate("promised", "promised.example.com").status == 201
        operation_id = wait_ordered(odd_site.hasty, "promised")
        odd_site.ca.judge = lambda name: refusal if name == "promised.example.com" else None
    wait_until(lambda: odd_site.client.operation(operation_id)["state"] == "waiting", what="the failed attempt")
    operation = odd_site.client.operation(operation_id)
    assert operation["attempt"] == 1
    assert operation["problem"]["detail"] == "no such host"
    assert [part["identifier"] for part in operation["problem"]["subproblems"]] == ["promised.example.com"]
    assert odd_site.client.certificate("promised").json["cert_body"] == ""
    assert odd_site.client.generate("promised", "promised.example.com").status == 201


def test_identical_posts_at_once_are_one_issuance(site: Site) -> None:
    before = site.pebble.count_new_orders()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: site.client.generate("chorus", "chorus.example.com"), range(8)))
    assert [answer.status for answer in answers] == [201] * 8
    (operation,) = site.client.operations("chorus")
    assert operation["state"] == "succeeded"
    assert site.client.certificate("chorus").json["san"] == ["chorus.example.com"]
    assert site.pebble.count_new_orders() == before + 1


def test_contradicting_posts_at_once_have_one_winner(site: Site) -> None:
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda n: site.client.generate("duel", f"duel-{n}.example.com"), range(6)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [201, 409, 409, 409, 409, 409]
    winner = next(n for n, answer in enumerate(answers) if answer.status == 201)
    assert site.client.certificate("duel").json["san"] == [f"duel-{winner}.example.com"]
    assert len(site.client.operations("duel")) == 1

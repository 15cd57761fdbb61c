"""The main job over the public API against the real Pebble: name domains, get a certificate, or the CA's reasons."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from certorbit.model.identifiers import hash_identifiers
from e2e import openssl
from e2e.conftest import NewDeployment, Site, StartPebble
from e2e.deployment import pebble_environment
from e2e.service import BASE, Answer, Client

STEPS = ["place_order", "prove", "finalise", "store"]
NOBODY = "127.0.0.2"  # loopback too, but nothing of ours listens there
SOMEBODY_ELSE = "127.0.0.3"


def assert_issued(client: Client, entry_id: str, *names: str, root_pem: str, folder: Path) -> None:
    """Fail unless the entry is a certificate for these names that strangers' software trusts and can use."""
    entry = client.certificate(entry_id).json
    assert set(entry["san"]) == set(names)
    assert entry["le_hash"] == hash_identifiers(names)
    assert date.fromisoformat(entry["expires"]) > date.fromisoformat(entry["uploaded"][:10]) + timedelta(days=30)
    answer = client.get(f"{BASE}/{entry_id}/pem")
    assert answer.headers["content-type"] == "application/x-pem-file"
    pem = answer.body.decode()
    assert pem.startswith("-----BEGIN PRIVATE KEY-----")
    assert pem.endswith(entry["cert_body"])
    openssl.verify(entry["cert_body"], root_pem=root_pem, folder=folder)
    assert openssl.names_of_leaf(pem) == set(names)
    assert openssl.public_key_of_key(pem) == openssl.public_key_of_leaf(pem)


def assert_refused(client: Client, answer: Answer, entry_id: str, *, says: str) -> dict[str, object]:
    """Fail unless the client was told why, and nothing is left but the record of it; return the recorded problem."""
    assert answer.status == 400, answer.body
    assert answer.json["code"] == 400
    assert says in answer.json["message"]
    assert answer.json["message"].endswith("No entry was created.")
    assert client.certificate(entry_id).status == 404
    assert entry_id not in [item["id"] for item in client.certificates()]
    (operation,) = client.operations(entry_id)
    assert operation["state"] == "failed"
    assert operation["finished_at"] is not None
    assert operation["next_attempt_at"] is None
    assert not operation["promised"]
    problem: dict[str, object] = operation["problem"]
    assert str(problem["message"]) in answer.json["message"]
    return problem


@contextmanager
def somebody_else(port: int) -> Iterator[None]:
    """A web server that answers every challenge, wrongly."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"this is another site")

        def log_message(self, *_: object) -> None:
            """Keep still."""

    with ThreadingHTTPServer((SOMEBODY_ELSE, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join(timeout=10)


def test_a_name_becomes_a_certificate_that_openssl_trusts(site: Site, tmp_path: Path) -> None:
    answer = site.client.generate("single", "Single.Example.COM", "single.example.com.")
    assert (answer.status, answer.json) == (201, {"message": "Successfully created entry"})
    root_pem = site.pebble.fetch_roots()[0]
    assert_issued(site.client, "single", "single.example.com", root_pem=root_pem, folder=tmp_path)
    (operation,) = site.client.operations("single")
    assert (operation["state"], operation["attempt"], operation["issuer"]) == ("succeeded", 1, "acme")
    assert operation["problem"] is None
    steps = site.client.operation(operation["id"])["steps"]
    assert [step["name"] for step in steps] == STEPS
    assert [step["outcome"]["outcome"] for step in steps] == ["done"] * 4
    times = [time for step in steps for time in (step["started_at"], step["finished_at"])]
    assert times == sorted(times)


def test_a_hundred_names_fit_into_one_certificate(site: Site, tmp_path: Path) -> None:
    names = [f"host-{number}.hundred.example.com" for number in range(100)]
    before = site.pebble.count_new_orders()
    assert site.client.generate("hundred", *names).status == 201
    # Slow machines may need longer than a POST waits: the entry then fills in by itself.
    site.client.wait_issued("hundred")
    assert_issued(site.client, "hundred", *names, root_pem=site.pebble.fetch_roots()[0], folder=tmp_path)
    assert site.pebble.count_new_orders() == before + 1


def test_a_name_in_another_script_is_asked_for_in_its_ascii_form(site: Site, tmp_path: Path) -> None:
    assert site.client.generate("idn", "BÜCHER.example.com", "例え.example.com").status == 201
    names = ("xn--bcher-kva.example.com", "xn--r8jz45g.example.com")
    assert_issued(site.client, "idn", *names, root_pem=site.pebble.fetch_roots()[0], folder=tmp_path)


def test_valid_authorizations_are_used_as_they_are(
    deploy: NewDeployment, new_pebble: StartPebble, tmp_path: Path
) -> None:
    pebble = new_pebble(authz_reuse=100)
    client = deploy(pebble_environment(pebble)).serve(http01_port=pebble.http01_port).client
    assert client.generate("first", "again.example.com").status == 201
    pebble.add_a_record("again.example.com", NOBODY)  # a second validation would fail
    assert client.generate("second", "again.example.com").status == 201
    assert_issued(client, "second", "again.example.com", root_pem=pebble.fetch_roots()[0], folder=tmp_path)


def test_a_name_where_nobody_listens_is_refused_in_the_words_of_the_ca(site: Site) -> None:
    site.pebble.add_a_record("a.nobody.example.com", NOBODY)
    site.pebble.add_a_record("b.nobody.example.com", NOBODY)
    names = ("a.nobody.example.com", "fine.example.com", "b.nobody.example.com")
    answer = site.client.generate("nobody", *names)
    problem = assert_refused(site.client, answer, "nobody", says="connection refused")
    assert problem["type"] == "urn:ietf:params:acme:error:connection"
    assert isinstance(problem["subproblems"], list)
    assert [part["identifier"] for part in problem["subproblems"]] == ["a.nobody.example.com", "b.nobody.example.com"]
    assert all("connection refused" in part["detail"] for part in problem["subproblems"])


def test_a_name_of_somebody_else_is_refused_in_the_words_of_the_ca(site: Site) -> None:
    site.pebble.add_a_record("theirs.example.com", SOMEBODY_ELSE)
    with somebody_else(site.pebble.http01_port):
        answer = site.client.generate("theirs", "theirs.example.com")
    problem = assert_refused(site.client, answer, "theirs", says="did not match this challenge")
    assert problem["type"] == "urn:ietf:params:acme:error:unauthorized"


def test_a_name_that_the_ca_blocks_is_refused_in_its_words(site: Site) -> None:
    answer = site.client.generate("blocked", "blocked.example")
    assert_refused(site.client, answer, "blocked", says="blocked.example")


def test_a_refused_id_can_be_used_again(site: Site, tmp_path: Path) -> None:
    site.pebble.set_servfail("mended.example.com")
    answer = site.client.generate("mended", "mended.example.com")
    assert_refused(site.client, answer, "mended", says="mended.example.com")
    site.pebble.clear_servfail("mended.example.com")
    assert site.client.generate("mended", "mended.example.com").status == 201
    assert_issued(site.client, "mended", "mended.example.com", root_pem=site.pebble.fetch_roots()[0], folder=tmp_path)
    states = [operation["state"] for operation in site.client.operations("mended")]
    assert states == ["succeeded", "failed"], "newest first"


@pytest.mark.parametrize(
    ("domains", "says"),
    [
        pytest.param(["*.wild.example.com"], "DNS-01", id="refused/wildcard-without-dns01"),
        pytest.param(["localhost"], "not a domain name", id="refused/one-label"),
        pytest.param([f"h{n}.example.com" for n in range(101)], "at most 100", id="refused/too-many"),
    ],
)
def test_names_that_no_ca_is_asked_for_are_refused_at_once(site: Site, domains: list[str], says: str) -> None:
    before = site.pebble.count_new_orders()
    answer = site.client.generate("unasked", *domains)
    assert answer.status == 400
    assert says in answer.json["message"]
    assert site.client.operations("unasked") == []
    assert site.pebble.count_new_orders() == before


def test_many_at_once_all_get_their_certificate_with_one_order_each(site: Site, tmp_path: Path) -> None:
    before = site.pebble.count_new_orders()
    ids = [f"crowd-{number}" for number in range(24)]
    with ThreadPoolExecutor(len(ids)) as threads:
        answers = list(threads.map(lambda one: site.client.generate(one, f"{one}.example.com"), ids))
    assert [answer.status for answer in answers] == [201] * len(ids)
    root_pem, public_keys = site.pebble.fetch_roots()[0], set()
    for one in ids:
        site.client.wait_issued(one)
        entry = site.client.certificate(one).json
        assert entry["san"] == [f"{one}.example.com"]
        openssl.verify(entry["cert_body"], root_pem=root_pem, folder=tmp_path)
        public_keys.add(openssl.public_key_of_leaf(entry["cert_body"]))
        (operation,) = site.client.operations(one)
        assert (operation["state"], operation["attempt"]) == ("succeeded", 1)
    assert len(public_keys) == len(ids), "no key is used twice"
    assert site.pebble.count_new_orders() == before + len(ids)

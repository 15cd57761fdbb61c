"""DNS-01 on the whole service: Pebble asks a real BIND, which the service updates with TSIG as its settings file says."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import pytest
from cryptography import x509

from e2e.bind import KEY_NAME, KEY_SECRET, Bind, running_bind
from e2e.deployment import Deployment, pebble_environment
from e2e.pebble import Pebble, start_pebble
from e2e.service import Service, wait_until

ZONE = "example.com"
VALIDATION_ZONE = "validation.test"
RECORDS = [
    "* IN A 127.0.0.1",
    f"_acme-challenge.delegated IN CNAME delegated.{VALIDATION_ZONE}.",
    f"_acme-challenge.first IN CNAME _acme-challenge.second.{ZONE}.",
    f"_acme-challenge.second IN CNAME second.{VALIDATION_ZONE}.",
]
SOLVER = """\
[[solvers]]
type = "rfc2136"
zone = "{zone}"
server = "{server}"
key_name = "{key_name}"
key_secret = "{key_secret}"
resolvers = ["{resolver}"]
check_servers = ["{check}"]
propagation_seconds = {seconds}
"""
Start = Callable[..., Service]


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    zones = {ZONE: RECORDS, VALIDATION_ZONE: []}
    with running_bind(tmp_path_factory.mktemp("bind"), zones, recursion=True) as running:
        yield running


@pytest.fixture(scope="module")
def pebble(bind: Bind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    running = start_pebble(tmp_path_factory.mktemp("pebble"), dns_server=bind.server)
    yield running
    running.stop()


def make_deployment(folder: Path, pebble: Pebble, solvers: str) -> Deployment:
    settings = folder / "solvers.toml"
    settings.write_text(solvers)
    environment = {**pebble_environment(pebble), "CERTORBIT_SETTINGS": str(settings)}
    return Deployment(folder, environment, secrets={KEY_SECRET})


def solver(bind: Bind, **changes: object) -> str:
    values = {
        "zone": "",
        "server": bind.server,
        "resolver": bind.server,
        "key_name": KEY_NAME,
        "key_secret": KEY_SECRET,
        "check": bind.server,
        "seconds": 30,
        **changes,
    }
    return SOLVER.format(**values)


@pytest.fixture(scope="module")
def service(bind: Bind, pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose only DNS-01 solver is for `ZONE`; HTTP-01 is there for the rest."""
    deployment = make_deployment(tmp_path_factory.mktemp("dns01"), pebble, solver(bind, zone=ZONE))
    yield deployment.serve(http01_port=pebble.http01_port)
    deployment.close()


@pytest.fixture
def start(bind: Bind, pebble: Pebble, tmp_path: Path) -> Iterator[Start]:
    """Start services with a solver of their own."""
    with ExitStack() as stack:

        def begin(**changes: object) -> Service:
            deployment = make_deployment(tmp_path, pebble, solver(bind, **changes))
            stack.callback(deployment.close)
            return deployment.serve()

        yield begin


def names_of(chain_pem: str) -> set[str]:
    leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names.get_values_for_type(x509.DNSName))


def wait_problem(service: Service, entry_id: str) -> str:
    """Return the message of the operation's failed attempt."""

    def look() -> str:
        operations = service.client.operations(entry_id)
        return str((operations[0].get("problem") or {}).get("message", "")) if operations else ""

    return str(wait_until(look, what=f"a problem of {entry_id}"))


def test_apex_and_wildcard_in_one_order_leave_nothing_behind_and_foreign_values_alone(
    service: Service, bind: Bind
) -> None:
    name = f"_acme-challenge.{ZONE}"
    bind.add_record(ZONE, name, "TXT", "foreign-value")
    answer = service.client.generate("wild", ZONE, f"*.{ZONE}")
    assert answer.status == 201, answer.body
    service.client.wait_issued("wild")
    assert names_of(service.client.certificate("wild").json["cert_body"]) == {ZONE, f"*.{ZONE}"}
    assert len({event["name"] for event in service.events("dns01.value_added")}) == 1
    assert len(service.events("dns01.value_added")) == len(service.events("dns01.value_removed")) == 2
    assert bind.read_txt(name) == {"foreign-value"}


@pytest.mark.parametrize("label", ["delegated", "first"])
def test_a_cname_delegates_the_challenge_to_another_zone(service: Service, bind: Bind, label: str) -> None:
    answer = service.client.generate(label, f"*.{label}.{ZONE}")
    assert answer.status == 201, answer.body
    service.client.wait_issued(label)
    added = [event for event in service.events("dns01.value_added") if event["zone"] == VALIDATION_ZONE]
    assert added[-1]["name"].endswith(f".{VALIDATION_ZONE}")
    assert bind.read_txt(added[-1]["name"]) == set()


def test_a_wildcard_that_no_solver_covers_is_refused_by_name(service: Service) -> None:
    answer = service.client.generate("outside", ZONE, "*.shop.example.org", "www.example.org")
    assert answer.status == 400
    assert "*.shop.example.org needs a DNS-01 solver" in answer.json["message"]
    assert "www.example.org" not in answer.json["message"]
    assert service.client.certificate("outside").status == 404


def test_a_wrong_key_is_told_with_what_to_compare(start: Start, bind: Bind) -> None:
    wrong = KEY_SECRET[::-1].lstrip("=") + "="
    service = start(key_secret=wrong)
    service.client.generate("wrong-key", f"*.key.{ZONE}")
    message = wait_problem(service, "wrong-key")
    assert f"zone {ZONE}" in message
    assert "refuses the TSIG key" in message
    assert "key_name, key_secret and key_algorithm" in message
    assert wrong not in service.log_text()
    assert bind.read_txt(f"_acme-challenge.key.{ZONE}") == set()


def test_a_name_server_that_never_shows_the_record_is_named_and_the_record_goes(start: Start, bind: Bind) -> None:
    service = start(check="127.0.0.1:9", seconds=1)
    service.client.generate("late", f"*.late.{ZONE}")
    message = wait_problem(service, "late")
    assert f"_acme-challenge.late.{ZONE} was written by the rfc2136 solver, but after 1 seconds" in message
    assert "127.0.0.1:9 (no usable answer)" in message
    assert "propagation_seconds" in message
    service.wait_event("dns01.value_removed")
    assert bind.read_txt(f"_acme-challenge.late.{ZONE}") == set()


def test_a_record_of_a_killed_process_is_gone_after_the_next_start(bind: Bind, pebble: Pebble, tmp_path: Path) -> None:
    name = f"_acme-challenge.killed.{ZONE}"
    first = make_deployment(tmp_path, pebble, solver(bind, check="127.0.0.1:9", seconds=60)).serve()
    before = pebble.count_new_orders()
    with ThreadPoolExecutor(1) as threads:
        posting = threads.submit(first.client.generate, "killed", f"*.killed.{ZONE}")
        first.wait_event("dns01.value_added")
        first.kill()
        with pytest.raises((OSError, HTTPException)):
            posting.result()
    assert len(bind.read_txt(name)) == 1

    deployment = make_deployment(tmp_path, pebble, solver(bind))
    second = deployment.serve()
    second.client.wait_issued("killed")
    assert bind.read_txt(name) == set()
    assert pebble.count_new_orders() == before + 1
    deployment.close()


def test_an_order_is_kept_while_the_name_server_is_down(
    start: Start, pebble: Pebble, bind: Bind, tmp_path: Path
) -> None:
    """The next attempt goes on with the same order; nothing of the CA's is spent."""
    before = pebble.count_new_orders()
    service = start(server="127.0.0.1:9")
    service.client.generate("down", f"*.down.{ZONE}")
    message = wait_problem(service, "down")
    assert "127.0.0.1:9 doesn't answer" in message
    assert pebble.count_new_orders() == before + 1
    operation = service.client.operations("down")[0]
    assert operation["state"] == "waiting", operation

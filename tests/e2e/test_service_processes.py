"""Several processes, restarts and stops: what one node began another one goes on with, and nothing is forgotten."""

from collections.abc import Callable, Iterator

import pytest

from e2e.conftest import NewDeployment, StartPebble
from e2e.deployment import Deployment, acme_environment, pebble_environment
from e2e.fake_ca_thread import UNDECIDED, running_fake_ca
from e2e.service import BASE, Service, free_port, wait_until
from fakes.fake_ca import FakeCA
from postgres import PostgresServer

LINE_OF_A_REFUSAL = "certorbit: "


@pytest.fixture
def ca() -> Iterator[FakeCA]:
    with running_fake_ca() as ca:
        yield ca


@pytest.fixture
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with the built-in CA."""
    deployment = Deployment(tmp_path_factory.mktemp("deployment"), {})
    yield deployment
    deployment.close()


@pytest.fixture
def on_postgres(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[dict[str, str]], Deployment]]:
    deployments: list[Deployment] = []
    name = postgres_server.create_database()

    def make(environment: dict[str, str]) -> Deployment:
        database = {"CERTORBIT_DATABASE_URL": postgres_server.url(name)}
        deployments.append(Deployment(tmp_path_factory.mktemp("deployment"), {**environment, **database}))
        return deployments[-1]

    yield make
    for deployment in deployments:
        deployment.close()
    postgres_server.drop_database(name)


def operations_in(service: Service, event: str) -> set[str]:
    return {str(line["operation"]) for line in service.events(event)}


def test_workers_issue_and_any_server_answers_the_challenge(
    on_postgres: Callable[[dict[str, str]], Deployment], new_pebble: StartPebble
) -> None:
    pebble = new_pebble()
    deployment = on_postgres(pebble_environment(pebble))
    front = deployment.serve("--no-worker", http01_port=pebble.http01_port)
    other = deployment.serve("--no-worker")
    workers = [deployment.work(), deployment.work()]

    ids = [f"spread-{number}" for number in range(6)]
    for one in ids:
        assert other.client.generate(one, f"{one}.example.com").status == 201
        assert front.client.certificate(one).json["san"] == [f"{one}.example.com"]
        assert front.client.certificate(one).json == other.client.certificate(one).json
    wanted = {front.client.operations(one)[0]["id"] for one in ids}
    workers[1].stop()
    assert other.client.generate("first-alone", "first-alone.example.com").status == 201
    workers[1].start()
    workers[0].stop()
    assert front.client.generate("second-alone", "second-alone.example.com").status == 201

    for process in (workers[1], front):
        assert process.stop() == 0
    issued = [operations_in(worker, "certificate.issued") for worker in workers]
    first, second = (other.client.operations(one)[0]["id"] for one in ("first-alone", "second-alone"))
    assert issued[0] - wanted == {first}
    assert issued[1] - wanted == {second}
    assert issued[0].isdisjoint(issued[1])
    assert issued[0] | issued[1] == wanted | {first, second}
    assert pebble.count_new_orders() == len(ids) + 2
    answered = front.events("challenge.answered")
    assert {line["status"] for line in answered} == {200}
    assert len(answered) >= len(ids) + 2
    assert operations_in(front, "order.placed") == set(), "who answered did not issue"


def test_a_second_worker_on_one_sqlite_file_is_refused_in_words(on_sqlite: Deployment) -> None:
    service = on_sqlite.serve()
    second = Service(on_sqlite.data_dir, on_sqlite.environment, ("worker",)).start(wait_ready=False)
    assert second.process is not None
    second.process.wait(timeout=60)
    assert second.stop() == 1
    refusals = [line for line in second.text if line.startswith(LINE_OF_A_REFUSAL)]
    assert len(refusals) == 1
    assert "another" in refusals[0].lower()
    assert str(on_sqlite.data_dir) in refusals[0]
    assert "Traceback" not in second.log_text()
    assert service.client.generate("unmoved", "unmoved.example.com").status == 201


def test_a_server_beside_a_worker_on_one_sqlite_file_works(on_sqlite: Deployment) -> None:
    front = on_sqlite.serve("--no-worker")
    worker = on_sqlite.work()
    assert front.client.generate("beside", "beside.example.com").status == 201
    assert front.client.certificate("beside").json["san"] == ["beside.example.com"]
    (operation,) = front.client.operations("beside")
    assert operations_in(worker, "certificate.issued") == {operation["id"]}


def test_a_restart_keeps_everything(deploy: NewDeployment, ca: FakeCA) -> None:
    deployment = deploy(acme_environment(ca.directory_url))
    service = deployment.serve()
    assert service.client.generate("kept", "kept.example.com").status == 201
    made = service.client.request(
        "POST", "/api/certorbit/v1/api-keys", {"name": "reader", "role": "read-only", "may_export_keys": True}
    )
    key: str = made.json["key"]
    deployment.secrets.add(key)
    paths = (BASE, f"{BASE}/kept/pem", "/api/certorbit/v1/operations", "/api/v4.3/conf/configs")
    before = [service.client.with_key(key).get(path).body for path in paths]
    assert service.stop() == 0

    service.start()
    assert [service.client.with_key(key).get(path).body for path in paths] == before
    assert service.client.generate("kept", "kept.example.com").status == 201
    assert len(service.client.operations("kept")) == 1
    assert service.client.generate("later", "later.example.com").status == 201
    assert ca.count("new-account") == 1
    assert len(ca.orders) == 2


def test_a_stop_in_the_middle_of_an_issuance_loses_nothing(deploy: NewDeployment, ca: FakeCA) -> None:
    ca.polls_before_decision = UNDECIDED
    service = deploy({**acme_environment(ca.directory_url), "CERTORBIT_ISSUANCE__WAIT": "0"}).serve()
    assert service.client.generate("stopped", "stopped.example.com").status == 201
    service.wait_event("order.proving")
    assert service.stop() == 0

    service.start()
    service.wait_event("order.proving", count=2)
    ca.polls_before_decision = 0
    service.client.wait_issued("stopped")
    (operation,) = service.client.operations("stopped")
    assert (operation["state"], operation["attempt"]) == ("succeeded", 1)
    steps = service.client.operation(operation["id"])["steps"]
    assert [step["name"] for step in steps] == ["place_order", "prove", "finalise", "store"]
    assert len(service.events("order.placed")) == 1
    assert len(ca.orders) == ca.count("new-account") == 1


def test_the_first_administrators_key_is_shown_once_and_works(tmp_path_factory: pytest.TempPathFactory) -> None:
    service = Service(
        tmp_path_factory.mktemp("first-start"),
        {"CERTORBIT_BOOTSTRAP_API_KEY": ""},
        port=free_port(),
    ).start()
    shown = [line for line in service.text if "first administrator's API key" in line]
    assert len(shown) == 1
    key = shown[0].rsplit(" ", 1)[1].strip()
    assert service.client.with_key(key).get("/api/certorbit/v1/api-keys").status == 200
    service.stop()
    service.start()
    assert service.client.with_key(key).get(BASE).status == 200
    assert service.stop() == 0
    assert service.log_text().count(key) == 1
    assert service.log_text().count("first administrator's API key") == 1


def test_the_command_line_makes_keys_beside_a_running_service(on_sqlite: Deployment) -> None:
    service = on_sqlite.serve()
    command = ("api-keys", "create", "--name", "deploy hook", "--role", "read-only")
    maker = Service(on_sqlite.data_dir, on_sqlite.environment, command).start(wait_ready=False)
    assert maker.process is not None
    assert maker.process.wait(timeout=60) == 0
    maker.stop()
    key = maker.text[-1].strip()
    assert key.startswith("co_")
    client = service.client.with_key(key)
    assert wait_until(lambda: client.get(BASE).status == 200, what="the key works")
    assert client.delete("placeholder").status == 403
    on_sqlite.secrets.add(key)

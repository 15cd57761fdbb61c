"""A target that is down shows as that, in the API and by every command that looks at targets."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from api.balancing import AT, attach, make_key, write
from api.material import make_leaf
from api.server import API, SECRETS, run_api, serve
from certorbit.api.app import make_app
from certorbit.cli.main import app
from certorbit.errors import Unreachable
from certorbit.model.balancer import Endpoint, Listener
from certorbit.model.operation import problem_from
from certorbit.ports.store import UnitOfWork
from certorbit.ports.target import PlacedTarget
from fakes.fake_target import FakeTarget

AWAY = problem_from(Unreachable("The socket\x1b[2J is not there.", subject="edge", phase="connect"))
FIELDS = ("listeners", "seen_at", "unseen_since", "problem")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    """Run the API with two targets, `edge` for all and `other` for another configuration than prod."""
    with run_api(tmp_path_factory.mktemp("api")) as api:
        targets = {
            name: PlacedTarget(target=FakeTarget(name), configurations=configurations, grace_seconds=0.0)
            for name, configurations in (("edge", ()), ("other", ("other",)))
        }
        with serve(make_app(replace(api.parts, targets=targets))) as port:
            yield replace(api, port=port)


@pytest.fixture(autouse=True)
def forget(api: API) -> None:
    write(api, lambda tx: tx.listeners.forget_targets([]))


def see(tx: UnitOfWork) -> None:
    listener = Listener(
        key=make_key(),
        provider="link11",
        kind="haproxy",
        dns_name="",
        max_certificates=1,
        default="",
        certificates=(),
        endpoints=(Endpoint("127.0.0.1", 443),),
    )
    tx.listeners.replace("edge", [listener], now=AT)


def miss(tx: UnitOfWork) -> None:
    tx.listeners.miss("edge", AWAY, now=AT)


def say(api: API, *arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env={"CERTORBIT_URL": api.url, "CERTORBIT_API_KEY": SECRETS["admin"]})
    assert result.exit_code == 0, result.output
    return result.stdout


def edge(api: API) -> dict[str, Any]:
    (item,) = [each for each in api.call("GET", "/api/certorbit/v1/targets").json["items"] if each["name"] == "edge"]
    return {field: item[field] for field in FIELDS}


def row(api: API) -> list[str]:
    head, *lines = say(api, "targets", "list").splitlines()
    (line,) = [line for line in lines if line.startswith("edge ")]
    places = [head.index(name) for name in ("LISTENERS", "SEEN", "PROBLEM")]
    return [line[start:end].strip() for start, end in zip(places, [*places[1:], None], strict=True)]


def test_a_target_that_nobody_looked_at_has_an_unknown_number_of_listeners(api: API) -> None:
    assert edge(api) == dict.fromkeys(FIELDS)
    assert row(api) == ["-", "-", "-"]


@pytest.mark.parametrize(
    ("looks", "listeners", "seen", "shown"),
    [
        ([see], 1, True, ["1", "2026-11-24 12:00Z", "-"]),
        ([see, miss], 1, True, ["1", "2026-11-24 12:00Z", "The socket?[2J is not there."]),
        ([miss], None, False, ["-", "never", "The socket?[2J is not there."]),
    ],
)
def test_the_last_look_at_a_target_is_shown(
    api: API, looks: list[Callable[[UnitOfWork], None]], listeners: int | None, shown: list[str], *, seen: bool
) -> None:
    for look in looks:
        write(api, look)
    found = edge(api)
    at = "2026-11-24T12:00:00.000Z"
    assert (found["listeners"], found["seen_at"]) == (listeners, at if seen else None)
    assert found["unseen_since"] == (at if miss in looks else None)
    assert (found["problem"] or {}).get("message") == (AWAY.message if miss in looks else None)
    assert row(api) == shown


def test_what_is_proven_at_a_target_that_is_not_seen_is_marked(api: API) -> None:
    name = api.new_name()
    assert api.upload(name, make_leaf(api.ca, f"{name}.example.test")).status == 201
    attach(api, name)
    write(api, see)
    assert "not seen" not in say(api, "deployments", "of", "prod", name)
    write(api, miss)
    lines = say(api, "deployments", "of", "prod", name).splitlines()
    assert lines[1].split()[:3] == [f"edge/lb-of-{name}/https:443", "attached", "proven"]
    assert lines[3:5] == [
        f"edge/lb-of-{name}/https:443:",
        "  not seen since 2026-11-24 12:00Z: The socket?[2J is not there.",
    ]
    path = f"/api/certorbit/v1/configs/prod/certificates/{name}/deployments"
    (attachment,) = api.call("GET", path).json["attachments"]
    assert attachment["unseen_since"] == "2026-11-24T12:00:00.000Z"
    assert attachment["unseen_problem"]["message"] == AWAY.message


def test_load_balancers_are_shown_with_the_targets_that_were_not_seen(api: API) -> None:
    write(api, see)
    assert "not seen" not in say(api, "load-balancers", "list", "prod")
    write(api, miss)
    write(api, lambda tx: tx.listeners.miss("other", AWAY, now=AT))
    lines = say(api, "load-balancers", "list", "prod").splitlines()
    assert lines[1].split()[:2] == ["edge-lb", "link11"]
    assert lines[2:] == ["", "edge: not seen since 2026-11-24 12:00Z: The socket?[2J is not there."]
    assert json.loads(say(api, "load-balancers", "list", "prod", "--json"))["total"] == 1


def test_who_names_a_target_that_is_not_known_is_told_when_settings_are_read(api: API) -> None:
    write(api, see)
    name = api.new_name()
    assert api.upload(name, make_leaf(api.ca, f"{name}.example.test")).status == 201
    attached = api.call("PUT", f"/api/v4.3/conf/prod/load-balancers/new/certificates/{name}?provider=link11")
    assert attached.status == 404
    assert "known after a restart" in attached.json["message"]
    checked = api.call("POST", "/api/certorbit/v1/targets/new/check")
    assert checked.status == 404
    assert "restart it after a change" in checked.json["message"]

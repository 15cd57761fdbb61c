"""`certorbit operations` and the wait for an operation's end, against a real API whose workflow is the tests'."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.renewing import NATIVE, RevokingIssuer, certificate_path, finish, run_renewing_api, write
from api.server import API, SECRETS
from certorbit.cli.following import follow, wait
from certorbit.cli.main import app
from certorbit.cli.remote import Remote
from certorbit.cli.showing_operations import show_operation
from certorbit.errors import BACKOFF, IssuerRefused, Refused
from certorbit.model.operation import OperationID, OperationState, problem_from
from fakes.clock import FakeClock

Run = Callable[..., Result]
DETAIL = "DNS problem: NX\x1bDOMAIN"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, RevokingIssuer]]:
    with run_renewing_api(tmp_path_factory.mktemp("api")) as pair:
        yield pair


@pytest.fixture
def api(running: tuple[API, RevokingIssuer]) -> API:
    return running[0]


@pytest.fixture
def name(api: API) -> str:
    entry_id = api.new_name()
    assert api.generate(entry_id, f"{entry_id}.example.test").status == 201
    return entry_id


@pytest.fixture
def run(api: API) -> Run:
    def run(*arguments: str, code: int = 0) -> Result:
        environment = {"CERTORBIT_URL": api.url, "CERTORBIT_API_KEY": SECRETS["admin"]}
        result = CliRunner().invoke(app, arguments, env=environment)
        assert result.exit_code == code, result.output
        return result

    return run


def renew(api: API, name: str) -> str:
    answer = api.call("POST", f"{certificate_path(name)}/renew")
    assert answer.status == 202, answer.body
    return str(answer.json["operation"])


def put_state(api: API, operation_id: str, state: OperationState, *, minutes: float = 0) -> None:
    """Let the operation's attempt fail with the CA's words; the next one is in so many minutes."""
    problem = problem_from(
        IssuerRefused(
            f"The CA refused: {DETAIL}.",
            type="urn:ietf:params:acme:error:dns",
            detail="in the CA's own words",
            subproblems={"www.example.test": "no address"},
            retry=BACKOFF,
        )
    )

    def put(tx: Any) -> None:
        operation = tx.operations.find(OperationID(operation_id))
        due = api.clock.now() + timedelta(minutes=minutes) if state is OperationState.WAITING else None
        ended = None if state is OperationState.WAITING else api.clock.now()
        waiting = operation.wait_until(due, problem=problem, now=api.clock.now()) if due else operation
        tx.operations.update(replace(waiting, state=state, finished_at=ended, problem=problem, issuer_name="fake"))

    write(api, put)


def test_a_stuck_operation_shows_its_problem_in_the_cas_words_and_its_next_attempt(
    api: API, name: str, run: Run
) -> None:
    operation = renew(api, name)
    put_state(api, operation, OperationState.WAITING, minutes=5)
    row = run("operations", "list", "--config", "prod", "--certificate", name).stdout.splitlines()[1]
    assert row.split()[:8] == [operation, "2026-11-24", "12:00Z", "renew", "prod", name, "fake", "waiting"]
    assert row.split(maxsplit=11)[8:11] == ["1", "2026-11-24", "12:05Z"]
    assert row.endswith("The CA refused: DNS problem: NX?DOMAIN.")
    assert run("operations", "show", operation).stdout.splitlines()[:12] == [
        f"operation:    {operation}",
        "kind:         renew",
        f"certificate:  prod/{name}",
        f"names:        {name}.example.test",
        "issuer:       fake",
        "state:        waiting, attempt 1",
        "started:      2026-11-24 12:00Z",
        "changed:      2026-11-24 12:00Z",
        "next attempt: 2026-11-24 12:05Z",
        "problem:      The CA refused: DNS problem: NX?DOMAIN.",
        "CA's words:   in the CA's own words",
        "              www.example.test: no address",
    ]
    shown = json.loads(run("operations", "show", operation, "--json").stdout)
    assert shown == api.call("GET", f"{NATIVE}/operations/{operation}").json


def test_a_list_of_operations_is_narrowed_and_says_what_it_leaves_out(api: API, name: str, run: Run) -> None:
    finish(api, renew(api, name))
    listed = json.loads(run("operations", "list", "--certificate", name, "--state", "succeeded", "--json").stdout)
    assert [item["kind"] for item in listed["items"]] == ["renew", "issue"]
    said = run("operations", "list", "--certificate", name, "--limit", "1").stdout
    assert said.splitlines()[2] == "1 older ones are not shown."
    assert run("operations", "list", "--config", "other").stdout == "There are no operations.\n"
    assert "There is no operation 'unknown'" in run("operations", "show", "unknown", code=1).stderr


def test_steps_tell_when_each_began_and_what_it_led_to() -> None:
    at = "2026-11-24T12:00:00Z"
    steps = [
        {"attempt": 1, "name": "place_order", "started_at": at, "finished_at": at, "outcome": outcome}
        for outcome in (
            {"outcome": "done", "order_url": "https://ca.example.test/o/1"},
            {"outcome": "failed", "problem": {"message": "no\x1b address", "held": {}}},
            {},
        )
    ]
    base = dict.fromkeys(("id", "kind", "config", "entry", "issuer", "state", "created_at", "updated_at"), "x")
    rest = {"attempt": 1, "identifiers": [], "finished_at": None, "next_attempt_at": None, "problem": None}
    lines = show_operation({**base, **rest, "steps": steps}).splitlines()
    assert [line.split("12:00:00Z  ")[1] for line in lines[-3:]] == [
        "done, order_url https://ca.example.test/o/1",
        "failed, no? address",
        "-",
    ]


def test_a_renewal_that_does_not_end_in_time_ends_the_wait_with_1(name: str, run: Run) -> None:
    ended = run("renew", "prod", name, "--wait", "--wait-seconds", "1", code=1)  # nobody works on it here
    operation = ended.stdout.split()[2].rstrip(".")
    assert "state:        queued, attempt 1" in ended.stdout
    assert ended.stderr == f"certorbit: The operation {operation} has not ended, but goes on; it is queued.\n"


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (OperationState.FAILED, "has failed: The CA refused: DNS problem: NX?DOMAIN."),
        (OperationState.CANCELLED, "has been cancelled: The CA refused"),
        (OperationState.WAITING, "has not ended, but goes on; it is waiting: The CA refused"),
    ],
)
def test_the_wait_says_why_there_is_no_new_version(
    api: API, name: str, state: OperationState, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    operation = renew(api, name)
    put_state(api, operation, state, minutes=60 * 24 * 3650)  # far from the clock of whoever waits
    with pytest.raises(Refused) as caught:
        follow(Remote(api.url, SECRETS["admin"]), operation, seconds=60, as_json=True)
    assert f"The operation {operation} {says}" in caught.value.message
    assert json.loads(capsys.readouterr().out)["state"] == state


@pytest.mark.parametrize(
    ("states", "ends", "looks"),
    [
        pytest.param(["queued", "running", "succeeded"], "succeeded", 3, id="succeeds"),
        pytest.param(["running", "failed"], "failed", 2, id="fails"),
        pytest.param(["cancelled"], "cancelled", 1, id="is-cancelled"),
        pytest.param(["running"], "running", 11, id="takes-too-long"),
        pytest.param(["running", "waiting@5", "running", "succeeded"], "succeeded", 4, id="is-tried-again-in-time"),
        pytest.param(["running", "waiting@3600", "succeeded"], "waiting@3600", 2, id="is-tried-again-too-late"),
    ],
)
def test_an_operation_is_followed_to_its_end_or_as_long_as_was_said(states: list[str], ends: str, looks: int) -> None:
    clock, seen = FakeClock(auto_advance=True), []
    start = clock.now()

    def look() -> dict[str, Any]:
        text = states[min(len(seen), len(states) - 1)]
        seen.append(text)
        state, _, seconds = text.partition("@")
        due = (start + timedelta(seconds=float(seconds))).isoformat() if seconds else None
        return {"state": state, "next_attempt_at": due}

    document = asyncio.run(wait(look, seconds=10, clock=clock))
    assert seen[-1] == ends
    assert document["state"] == ends.partition("@")[0]
    assert len(seen) == looks

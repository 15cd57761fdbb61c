"""What `attach` and `detach` send, and what they say of the end: done, on its way, never there, or what is in the way.

The service is a stand-in, its answers are of the API's own schema; e2e has both commands against a real one.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.listening import listening_service
from api.server import SECRETS
from certorbit.api.balancer_schemas import CertificateDeployments
from certorbit.cli.main import app

Run = Callable[..., Result]
AT = "2026-11-24T12:00:00Z"
LINK = "https://provider.example.test/copies/1"
PROBLEM = {
    "message": "edge is a\x1bway",
    "type": "Unreachable",
    "detail": "",
    "subproblems": [],
    "retry": "backoff",
    "retry_at": None,
}


@pytest.fixture
def run() -> Run:
    def run(*arguments: str, url: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments, env={"CERTORBIT_URL": url, "CERTORBIT_API_KEY": SECRETS["admin"]})
        assert result.exit_code == code, result.output
        return result

    return run


def attached_at(*listeners: str, waiting: bool = False, **fields: Any) -> dict[str, Any]:
    """Return the native answer of a certificate that is on these listeners of `edge`."""
    attachments = [
        {
            "listener": {"target": "t", "region": "", "load_balancer": "edge", "listener": name, "port": 443},
            "is_default": False,
            "wanted": "attached",
            "stage": "proven",
            "version": "v-1",
            "proof": None,
            "problem": None,
            "unseen_since": None,
            "unseen_problem": None,
            **fields,
        }
        for name in listeners
    ]
    operation = {
        "id": "o-1",
        "config": "prod",
        "entry": "shop",
        "state": "waiting" if waiting else "running",
        "attempt": 1,
        "created_at": AT,
        "updated_at": AT,
        "finished_at": None,
        "next_attempt_at": AT if waiting else None,
        "problem": PROBLEM if waiting else None,
        "listeners": [],
    }
    document = {"total": 1, "items": [operation], "attachments": attachments}
    CertificateDeployments.model_validate(document)
    return document


def test_a_detached_certificate_is_said_to_be_off(run: Run) -> None:
    with listening_service(shows=(attached_at("a", "b"), attached_at("b"))) as (url, _):
        said = run("detach", "prod", "shop", "--load-balancer", "edge", "--listener", "a", url=url).stdout
    assert said.splitlines()[0] == "shop is off edge."
    assert said.splitlines()[2].split()[:3] == ["t/edge/b:443", "attached", "proven"]


def test_a_certificate_that_was_never_there_is_said_so(run: Run) -> None:
    with listening_service(shows=(attached_at("b"),)) as (url, sent):
        said = run("detach", "prod", "shop", "--load-balancer", "edge", "--listener", "a", url=url).stdout
        assert said.splitlines()[0] == "shop was not attached to edge; nothing was done."
        assert "shop was not attached" in run("detach", "prod", "shop", "--load-balancer", "other", url=url).stdout
    assert [method for method, _, _ in sent] == ["DELETE", "DELETE"], "the service has the last word"


def test_a_detachment_that_runs_is_on_its_way(run: Run) -> None:
    with listening_service(shows=(attached_at("a", wanted="detached"),)) as (url, _):
        said = run("detach", "prod", "shop", "--load-balancer", "edge", url=url).stdout
    assert said.splitlines()[0] == "shop is on its way off edge."
    assert said.splitlines()[2].split()[:2] == ["t/edge/a:443", "off"]


@pytest.mark.parametrize("problem", [PROBLEM, None], ids=["of-the-listener", "of-the-operation"])
def test_a_detachment_that_waits_says_why_and_ends_with_1(run: Run, problem: dict[str, Any] | None) -> None:
    shown = attached_at("a", wanted="detached", problem=problem, waiting=True)
    with listening_service(shows=(shown,)) as (url, _):
        ended = run("detach", "prod", "shop", "--load-balancer", "edge", url=url, code=1)
        programs = run("detach", "prod", "shop", "--load-balancer", "edge", "--json", url=url, code=1)
    why = "shop is still on edge: edge is a?way The next attempt is at 2026-11-24 12:00Z."
    assert ended.stderr == f"certorbit: {why}\n"
    assert json.loads(programs.stdout) == shown


def test_an_attachment_that_is_not_served_yet_ends_with_1_if_something_is_in_the_way(run: Run) -> None:
    command = ("attach", "prod", "shop", "--load-balancer", "edge")
    with listening_service(shows=(attached_at("a", stage="unsettled", problem=PROBLEM, waiting=True),)) as (url, _):
        ended = run(*command, url=url, code=1)
    assert "edge does not serve shop yet: edge is a?way" in ended.stderr
    assert "unsettled" in ended.stdout
    with listening_service(shows=(attached_at("a", stage="changing"),)) as (url, _):
        assert "changing" in run(*command, url=url).stdout
    with listening_service(shows=(attached_at("a", problem=PROBLEM, waiting=True),)) as (url, _):
        assert "proven" in run(*command, url=url).stdout, "it is served; what waits is about another listener"


@pytest.mark.parametrize("given", [LINK, f"{LINK}/shop"], ids=["without-the-id", "as-it-is-listed"])
def test_the_link_of_a_copy_is_followed_to_its_certificate(run: Run, given: str) -> None:
    certificates = {"items": [{"id": "shop", "links": [{"link": f"{LINK}/shop", "provider": "aws", "region": ""}]}]}
    with listening_service(shows=(certificates, attached_at("a"), attached_at())) as (url, sent):
        assert run("detach", "prod", given, "--load-balancer", "edge", url=url).stdout == f"{given} is off edge.\n"
    assert f"certificate-id={given.replace(':', '%3A').replace('/', '%2F')}" in sent[0][1]


def test_a_link_that_nobody_lists_is_left_to_the_service(run: Run) -> None:
    with listening_service(shows=({"items": []},)) as (url, _):
        said = run("detach", "prod", LINK, "--load-balancer", "edge", url=url).stdout
    assert said == "Accepted. `certorbit load-balancers list prod` shows what edge has.\n"


def test_a_listener_is_named_by_what_was_said_of_it(run: Run) -> None:
    with listening_service(shows=({"items": []}, attached_at())) as (url, sent):
        run("detach", "prod", "a/b c", "--load-balancer", "x/y", url=url)
        run(
            *("detach", "other", "shop", "--load-balancer", "lb", "--provider", "aws", "--region", "eu-west-1"),
            *("--listener", "web", "--port", "443", "--classic"),
            url=url,
        )
    assert [path for _, path, _ in sent] == [
        (
            "/api/v4.3/conf/prod/load-balancers/x%2Fy/certificates?provider=link11&region=&elbv2=true"
            "&certificate-id=a%2Fb+c"
        ),
        (
            "/api/v4.3/conf/other/load-balancers/lb/certificates?provider=aws&region=eu-west-1&elbv2=false&listener=web"
            "&listener-port=443&certificate-id=shop"
        ),
    ]

"""What the commands for targets and deployments show and send, against a real API whose store holds what it may hold."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.balancing import AT, add_listener, attach, find_entry, write
from api.listening import listening_service
from api.server import API, SECRETS, run_api
from certorbit.cli.main import app
from certorbit.cli.showing_targets import show_checks, show_load_balancers
from certorbit.deploying.starting import ensure_deployment
from certorbit.errors import BACKOFF, NotServed
from certorbit.model.deployment import Attachment, Handshake, Proof, Rollout, Stage, Wanted
from certorbit.model.entry import VersionID
from certorbit.model.operation import Operation, OperationState, problem_from
from certorbit.ports.store import UnitOfWork

Run = Callable[..., Result]
PROOF = Proof(
    at=AT,
    is_served=False,
    message="none",
    handshakes=tuple(
        Handshake(address=address, port=443, server_name=name, leaf=leaf, error=error)
        for address, name, leaf, error in (
            ("192.0.2.1", "a.example.test", "", "connect: re\x1b[2Jfused"),
            ("2001:db8::1", "", "ab" * 32, ""),
            *(("192.0.2.9", f"{number}.example.test", "cd" * 32, "") for number in range(5)),
        )
    ),
)
PROBLEM = problem_from(NotServed("not\nserved", subject="edge", retry=BACKOFF))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[API]:
    with run_api(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def name(api: API) -> str:
    entry_id = api.new_name()
    assert api.generate(entry_id, f"{entry_id}.example.test").status == 201
    return entry_id


@pytest.fixture
def run(api: API) -> Run:
    def run(*arguments: str, url: str = api.url, key: str = SECRETS["admin"], code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments, env={"CERTORBIT_URL": url, "CERTORBIT_API_KEY": key})
        assert result.exit_code == code, result.output
        return result

    return run


def deploy_badly(api: API, name: str, attachment: Attachment) -> Operation:
    """Store a deployment that waits after its first attempt, its listener neither forward nor back."""

    def work(tx: UnitOfWork) -> Operation:
        tx.attachments.update(
            replace(attachment, stage=Stage.UNSETTLED, is_default=True, proof=PROOF, problem=PROBLEM, updated_at=AT)
        )
        operation = ensure_deployment(tx, find_entry(api, name), priority=10, now=AT, new_id=api.parts.new_id)
        assert operation is not None
        waiting = replace(
            operation, state=OperationState.WAITING, attempt=2, next_attempt_at=AT, problem=PROBLEM, updated_at=AT
        )
        tx.operations.update(waiting)
        tx.rollouts.put(
            Rollout(
                operation=operation.id,
                attachment=attachment.id,
                listener=attachment.listener,
                is_default=True,
                from_version=None,
                to_version=VersionID("v-new"),
                stage=Stage.UNSETTLED,
                updated_at=AT,
                proof=PROOF,
                problem=PROBLEM,
            )
        )
        return waiting

    return write(api, work)


def test_a_service_without_targets_says_so(run: Run, api: API) -> None:
    assert "If there is one now, restart it." in run("targets", "list").stdout
    assert "restart it after a change" in run("targets", "check", code=1).stderr
    assert run("load-balancers", "list", "prod").stdout.startswith("No load balancers are known.")
    assert json.loads(run("load-balancers", "list", "prod", "--json").stdout) == {"total": 0, "items": []}
    assert "is attached nowhere" in run("deployments", "of", "prod", "placeholder").stdout
    add_listener(api, target="edge", load_balancer="edge-lb")  # of no target in the settings: it stays hidden
    assert run("load-balancers", "list", "prod").stdout.startswith("No load balancers are known.")


def test_a_stuck_deployment_shows_its_stage_and_each_failed_handshake(run: Run, api: API, name: str) -> None:
    attachment = attach(api, name)
    operation = deploy_badly(api, name, attachment)
    lines = run("deployments", "show", operation.id).stdout.splitlines()
    assert lines[:7] == [
        f"deployment:   {operation.id}",
        f"certificate:  prod/{name}",
        "state:        waiting, attempt 1",
        "started:      2026-11-24 12:00Z",
        "changed:      2026-11-24 12:00Z",
        "next attempt: 2026-11-24 12:00Z",
        "problem:      not?served",
    ]
    assert lines[8].split() == ["LISTENER", "WANTED", "STAGE", "FROM", "VERSION", "TO", "VERSION", "PROOF"]
    assert lines[9].split() == [
        f"edge/lb-of-{name}/https:443",
        *["default", "unsettled", "-", "v-new", "NOT", "SERVED", "2026-11-24", "12:00Z"],
    ]
    assert lines[11:] == [
        f"edge/lb-of-{name}/https:443:",
        "  not?served",
        "  192.0.2.1:443, asked for a.example.test: connect: re?[2Jfused",
        "  [2001:db8::1]:443, asked for no name: served abababababababab",
        *(f"  192.0.2.9:443, asked for {number}.example.test: served cdcdcdcdcdcdcdcd" for number in range(3)),
        "  and 2 more (--json shows them)",
    ]
    of = run("deployments", "of", "prod", name).stdout
    assert f"edge/lb-of-{name}/https:443  default  unsettled" in of
    assert "connect: re?[2Jfused" in of
    assert of.splitlines()[-1].split()[-3:] == ["unsettled", "2026-11-24", "12:00Z"]
    assert json.loads(run("deployments", "show", operation.id, "--json").stdout)["id"] == operation.id


def test_deploying_starts_a_waiting_deployment_anew(run: Run, api: API, name: str) -> None:
    operation = deploy_badly(api, name, attach(api, name))
    assert run("deploy", "prod", name).stdout == f"Started: deployment {operation.id}.\n"
    listed = json.loads(run("deployments", "list", "--state", "queued", "--json").stdout)["items"]
    assert [(item["id"], item["attempt"]) for item in listed if item["entry"] == name] == [(operation.id, 2)]


def test_a_deployment_is_not_shown_as_the_renewals_operation(run: Run, api: API, name: str) -> None:
    deploy_badly(api, name, attach(api, name))
    assert json.loads(run("renewal", "prod", name, "--json").stdout)["operation"] is None


def test_what_is_on_its_way_off_is_wanted_off(run: Run, api: API, name: str) -> None:
    attach(api, name, wanted=Wanted.DETACHED)
    assert run("deployments", "of", "prod", name).stdout.splitlines()[1].split()[:3] == [
        f"edge/lb-of-{name}/https:443",
        "off",
        "proven",
    ]


def test_a_list_says_how_many_it_does_not_show(run: Run, api: API) -> None:
    for _ in range(2):
        entry_id = api.new_name()
        api.generate(entry_id, f"{entry_id}.example.test")
        deploy_badly(api, entry_id, attach(api, entry_id))
    total = json.loads(run("deployments", "list", "--json").stdout)["total"]
    assert run("deployments", "list", "--limit", "1").stdout.splitlines()[2] == f"{total - 1} older ones are not shown."
    assert run("deployments", "list", "--config", "other").stdout == "There are no deployments.\n"
    assert "Invalid value for '--state'" in run("deployments", "list", "--state", "odd", code=2).output


def test_a_key_that_may_only_read_starts_nothing(run: Run, name: str) -> None:
    reader = SECRETS["reader"]
    assert "has no right to change anything" in run("deploy", "prod", name, key=reader, code=1).stderr
    said = run("attach", "prod", name, "--load-balancer", "edge", key=reader, code=1)
    assert "has no right to change anything" in said.stderr
    assert said.stdout == ""


def test_the_marks_stand_first_and_nothing_in_them_moves_the_cursor() -> None:
    grades = ("ok", "warning", "failed")
    findings = [{"what": f"{grade} thing", "grade": grade, "message": "a\x1b[1A"} for grade in grades]
    assert show_checks({"items": [{"target": "edge", "ok": False, "findings": findings}]}).splitlines() == [
        "edge",
        "  ok       ok thing       a?[1A",
        "  warning  warning thing  a?[1A",
        "  FAILED   failed thing   a?[1A",
    ]


def test_listeners_name_their_certificates_by_the_end_of_the_links() -> None:
    links = ["arn:aws:acm:eu:1:certificate/1-2/shop", "/etc/edge/live/prod/www", "odd#staging", "trailing/"]
    item = {
        "name": "edge",
        "provider": "aws",
        "region": "",
        "load_balancer_type": "application",
        "listener_name": "https",
        "listener_port": 443,
        "max_certificates": 25,
        "default_certificate": links[1],
        "certificates": links,
    }
    row = show_load_balancers({"items": [item]}).splitlines()[1]
    assert row.split("  ")[-1] == "shop, *www, odd#staging, trailing/"
    assert row.split()[:7] == ["edge", "aws", "-", "application", "https", "443", "25"]


def test_publishing_sends_the_buckets_as_they_are_named_and_shows_what_each_has(run: Run) -> None:
    bucket = {"name": "a", "url": "s3://b/c", "objects": 7, "written": 2, "removed": 1}
    published = {"configuration": "prod", "version": "5", "unavailable": ["new", "n\x1bw"], "buckets": [bucket]}
    with listening_service(answer=json.dumps(published).encode()) as (url, sent):
        said = run("publish", "prod", "--bucket", "a=s3://b/c?x=1", "--bucket", "d=file:///e", url=url).stdout
        assert said.splitlines() == [
            "BUCKET  URL       OBJECTS  NEW  REMOVED",
            "a       s3://b/c  7        2    1",
            "Not in it, for they are still being issued: new, n?w.",
        ]
        assert json.loads(run("publish", "prod", "--json", url=url).stdout) == published
    first = [{"name": "a", "url": "s3://b/c?x=1"}, {"name": "d", "url": "file:///e"}]
    assert sent == [("PUT", "/api/v4.3/tools/publish/prod", body) for body in (first, [])]
    assert "is not NAME=URL" in run("publish", "prod", "--bucket", "s3", code=1).stderr


def test_a_waiting_deployment_is_retried_and_given_up_like_any_operation(run: Run, api: API, name: str) -> None:
    operation = deploy_badly(api, name, attach(api, name))
    assert run("retry", operation.id).stdout.startswith(f"Started: operation {operation.id}. How it goes: ")
    assert "is cancelled" in run("cancel", operation.id).stdout
    assert "state:        cancelled, attempt 2" in run("deployments", "show", operation.id).stdout


def test_a_refused_publish_is_told_with_the_services_words(run: Run) -> None:
    with listening_service(503, b'{"message":"A publish runs."}') as (url, _):
        assert run("publish", "prod", url=url, code=1).stderr == "certorbit: A publish runs. (status 503)\n"
    with listening_service(200, b"<html>") as (url, _):
        assert "is no Certorbit" in run("publish", "prod", url=url, code=1).stderr

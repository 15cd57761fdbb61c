"""The operator's commands on a terminal, against a real API on loopback."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.listening import Handler, web_server
from api.renewing import (
    NATIVE,
    RevokingIssuer,
    certificate_path,
    finish,
    let_wait,
    run_renewing_api,
    schedule,
    window_at,
)
from api.server import API, CERTS, SECRETS
from certorbit.cli.main import app
from certorbit.cli.operator import ReasonName
from certorbit.cli.showing import plain
from certorbit.errors import IssuerRefused, RetryRule
from certorbit.model.operation import Problem
from certorbit.model.renewal import RenewalInfo
from certorbit.model.revocation import RevocationReason

Run = Callable[..., Result]
DOWN = Problem("The CA is away.", "Unreachable", "away", {"www.example.test": "no such host"}, RetryRule.BACKOFF)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[API, RevokingIssuer]]:
    with run_renewing_api(tmp_path_factory.mktemp("api")) as pair:
        yield pair


@pytest.fixture
def api(running: tuple[API, RevokingIssuer]) -> Iterator[API]:
    yield running[0]
    running[0].workflow.outcome = "issue"
    running[1].problem = None


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
        assert SECRETS["admin"] not in result.output
        return result

    return run


def test_renewing_and_retrying_name_the_operation(api: API, name: str, run: Run) -> None:
    said = run("renew", "prod", name, "--issuer", "other").stdout
    operation = api.call("GET", f"{NATIVE}/operations?entry={name}").json["items"][0]
    assert operation["issuer"] == "other"
    assert said == (f"Started: operation {operation['id']}. How it goes: certorbit operations show {operation['id']}\n")
    let_wait(api, operation["id"])
    assert json.loads(run("retry", operation["id"], "--json").stdout) == {"operation": operation["id"]}
    assert "The operation is cancelled" in run("cancel", operation["id"]).stdout


def test_pausing_resuming_and_the_issuer_show_how_the_renewal_stands(api: API, name: str, run: Run) -> None:
    schedule(api, name, renew_at=api.clock.now(), reason="fraction")
    assert "automatic renewal: paused" in run("pause", "prod", name).stdout
    said = run("issuer", "prod", name, "other").stdout.splitlines()
    assert said[1].startswith("because:           An operator paused it")
    assert [said[0], *said[2:5]] == [
        "automatic renewal: paused",
        "issuer:            other",
        "ends:              2027-03-31 23:59Z",
        "due:               2026-11-24 12:00Z (fraction)",
    ]
    assert "automatic renewal: on" in run("resume", "prod", name).stdout
    assert (
        json.loads(run("renewal", "prod", name, "--json").stdout)
        == api.call("GET", f"{certificate_path(name)}/renewal").json
    )


def test_the_cas_window_and_its_problem_are_shown(api: API, name: str, run: Run) -> None:
    now = api.clock.now()
    info = RenewalInfo(now, now + timedelta(days=2), "https://ca.example.test/why", now, now, now, "no\x1banswer")
    schedule(api, name, renew_at=now, reason="ari", info=info)
    run("renew", "prod", name)
    lines = run("renewal", "prod", name).stdout.splitlines()
    assert lines[4:7] == [
        "CA's window:       2026-11-24 12:00Z to 2026-11-26 12:00Z",
        "CA explains:       https://ca.example.test/why",
        "CA's problem:      no?answer",
    ]
    assert lines[7].startswith("operation:")
    assert lines[7].endswith("(queued, attempt 1)")


def test_versions_are_a_table_and_rolled_back_to(api: API, name: str, run: Run) -> None:
    first = api.call("GET", f"{certificate_path(name)}/versions").json["items"][0]["id"]
    run("renew", "prod", name)
    operation = api.call("GET", f"{NATIVE}/operations?entry={name}").json["items"][0]["id"]
    finish(api, operation)
    lines = run("versions", "prod", name).stdout.splitlines()
    assert lines[0].split() == ["VERSION", "MADE", "ENDS", "ISSUER", "KEY", "STATUS", "NAMES"]
    assert len(lines) == 3
    assert [line.split()[1] for line in lines if line.startswith("*")] == [f"v-{operation}"]
    assert "paused" in run("rollback", "prod", name, first).stdout
    assert (
        next(line for line in run("versions", "prod", name).stdout.splitlines() if line[0] == "*").split()[1] == first
    )


def test_why_a_renewal_fails_and_when_it_is_tried_again_is_shown(api: API, name: str, run: Run) -> None:
    run("renew", "prod", name)
    operation = api.call("GET", f"{NATIVE}/operations?entry={name}").json["items"][0]["id"]
    let_wait(api, operation, problem=DOWN)
    lines = run("renewal", "prod", name).stdout.splitlines()
    assert lines[0] == "automatic renewal: on"
    assert lines[-4:] == [
        f"operation:         {operation} (waiting, attempt 1)",
        "problem:           The CA is away.",
        "                   www.example.test: no such host",
        "next attempt:      2026-11-24 13:00Z",
    ]


def test_what_nothing_renews_is_said_with_the_reason(api: API, name: str, run: Run) -> None:
    assert api.call("PUT", f"{CERTS}/{name}?le_auto_renew=false").status == 200
    lines = run("renewal", "prod", name).stdout.splitlines()
    assert lines[:2] == ["automatic renewal: NO (auto-renew-off)", "because:           le_auto_renew is false."]
    assert "due:               never" in lines
    shown = run("simulate", "--days", "300").stdout
    assert "Nothing renews by itself:" in shown
    assert f"  prod/{name} ends 2027-03-31 23:59Z: le_auto_renew is false." in shown.splitlines()
    assert f"prod/{name} ends" not in run("simulate", "--days", "10").stdout, "it ends later"


def test_a_revoked_version_shows_and_comes_back_only_by_force(api: API, name: str, run: Run) -> None:
    first = api.call("GET", f"{certificate_path(name)}/versions").json["items"][0]["id"]
    run("revoke", "prod", name, "--reason", "superseded")
    finish(api, api.call("GET", f"{NATIVE}/operations?entry={name}").json["items"][0]["id"])
    (line,) = [line for line in run("versions", "prod", name).stdout.splitlines() if first in line]
    assert "REVOKED" in line
    assert "The version is revoked" in run("rollback", "prod", name, first, code=1).stderr
    assert run("rollback", "prod", name, first, "--force").stdout.startswith("The version is revoked, and clients")
    assert "revoked:           YES" in run("renewal", "prod", name).stdout


def test_revoking_says_what_takes_its_place(name: str, run: Run, running: tuple[API, RevokingIssuer]) -> None:
    said = run("revoke", "prod", name, "--reason", "superseded").stdout
    assert said.startswith("Revoked: version v-id-")
    assert "replaces it" in said
    assert running[1].revoked[-1] == 4
    assert "Invalid value for '--reason'" in run("revoke", "prod", name, "--reason", "whim", code=2).output


def test_revoking_says_why_nothing_takes_its_place(api: API, name: str, run: Run) -> None:
    first = api.call("GET", f"{certificate_path(name)}/versions").json["items"][0]["id"]
    run("renew", "prod", name)
    finish(api, api.call("GET", f"{NATIVE}/operations?entry={name}").json["items"][0]["id"])
    said = run("revoke", "prod", name, "--reason", "superseded", "--version", first).stdout
    assert said == f"Revoked: version {first}; nothing replaces it. It is not the current version; that one stays.\n"

    by_hand = api.new_name()
    assert api.generate(by_hand, f"{by_hand}.example.test", le_auto_renew=False).status == 201
    said = run("revoke", "prod", by_hand, "--reason", "superseded").stdout
    assert "nothing replaces it. le_auto_renew is false." in said
    assert said.endswith(f"certorbit renew prod {by_hand}\n")


def test_the_cas_refusal_is_shown_on_one_line(name: str, run: Run, running: tuple[API, RevokingIssuer]) -> None:
    running[1].problem = IssuerRefused("The CA refused: no such reason.", type="urn:x", detail="no")
    result = run("revoke", "prod", name, "--reason", "affiliation-changed", code=1)
    assert (result.stdout, result.stderr) == ("", "certorbit: The CA refused: no such reason. (status 400)\n")


def test_the_simulation_lists_what_is_to_come(tmp_path_factory: pytest.TempPathFactory) -> None:
    with run_renewing_api(tmp_path_factory.mktemp("api")) as (api, _):
        env = {"CERTORBIT_URL": api.url, "CERTORBIT_API_KEY": SECRETS["reader"]}
        nothing = CliRunner().invoke(app, ["simulate"], env=env)
        assert nothing.stdout == "Nothing is due by then.\n"
        for name in ("a", "b"):
            api.generate(name, f"{name}.example.test")
            now = api.clock.now()
            schedule(api, name, renew_at=now, info=window_at(api, now), issuer="other")
        result = CliRunner().invoke(app, ["simulate", "--days", "60"], env=env)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines() == [
            "WHEN               CONFIG  ID  ISSUER  WHY  NAMES",
            "2026-11-24 12:00Z  prod    a   other   ari  a.example.test",
            "2026-12-04 12:00Z  prod    b   other   ari  b.example.test",
            "",
            "other: 2 in all. 2026-11-24: 1, 2026-12-04: 1",
            "",
            "Held back by limits:",
            (
                "  prod/b until 2026-12-04 12:00Z: example.test: 1 certificates per 10 days at ca.example.test; next at"
                " 2026-12-04 12:00:00 UTC"
            ),
        ]


def test_what_the_service_refuses_is_said_with_its_own_words(name: str, run: Run) -> None:
    assert "There is no certificate 'unknown'" in run("renew", "prod", "unknown", code=1).stderr
    assert "(status 404)" in run("renew", "prod", "unknown", code=1).stderr
    assert "has no right to change anything" in run("pause", "prod", name, key=SECRETS["reader"], code=1).stderr
    assert "(status 401)" in run("versions", "prod", name, key="co_" + "x" * 43, code=1).stderr
    assert "entry_id: String should match pattern" in run("versions", "prod", "NO", code=1).stderr
    assert "(status 404)" in run("versions", "../..", "x", code=1).stderr


def test_wrong_settings_are_said_before_anything_is_sent(run: Run) -> None:
    assert "CERTORBIT_API_KEY" in run("simulate", key="", code=1).stderr
    assert "no API key" in run("simulate", key="a\nb: c", code=1).stderr
    for url in ("ftp://127.0.0.1", "127.0.0.1:8080", "http://", "http://[", "file:///etc/passwd", "http://a:x"):
        assert "is no http or https URL" in run("simulate", url=url, code=1).stderr, url


def test_a_service_that_does_not_run_is_said_to_be_out_of_reach(run: Run) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        said = run("simulate", url=url, code=1).stderr
    assert said.startswith(f"certorbit: {url} can't be reached: [Errno 111] Connection refused.")


def test_an_operator_who_writes_https_is_told_that_plain_http_answers(api: API, run: Run) -> None:
    url = api.url.replace("http://", "https://")
    assert f"What answers there speaks plain HTTP: write {api.url}" in run("simulate", url=url, code=1).stderr


@contextmanager
def stranger(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """Run a web server that is no Certorbit; gives its URL and the paths that it was asked for."""
    asked: list[str] = []

    class Stranger(Handler):
        def do_GET(self) -> None:  # noqa: N802 - the base class calls it so
            asked.append(self.path)
            self.say(status, body, headers)

    with web_server(Stranger) as url:
        yield url, asked


def test_what_is_no_certorbit_is_called_so(run: Run) -> None:
    with stranger(200, b"<html>hello") as (url, _):
        assert "is no Certorbit" in run("simulate", url=url, code=1).stderr
    with stranger(502, b"<html>bad gateway") as (url, _):
        assert "(status 502)" in run("simulate", url=url, code=1).stderr
    with stranger(404, b"[1]") as (url, _):
        assert "is no Certorbit" in run("simulate", url=url, code=1).stderr


def test_the_key_follows_no_redirect(run: Run) -> None:
    with stranger(200, b"{}") as (thief, stolen), stranger(302, b"", Location=thief) as (url, asked):
        assert "(status 302)" in run("simulate", url=url, code=1).stderr
    assert len(asked) == 1
    assert stolen == []


def test_every_reason_has_a_name_for_people() -> None:
    assert [reason.name for reason in ReasonName] == [reason.name for reason in RevocationReason]


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert plain("a\x1b[2Jb\nc\u202e") == "a?[2Jb?c?"

"""`certorbit audit`, against a real API on loopback, against its database, and against a file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import Result
from typer.testing import CliRunner

from api.material import make_leaf
from api.server import API, SECRETS
from certorbit.cli.main import app
from certorbit.storage.tables_audit import audit_records

Run = Callable[..., Result]


@pytest.fixture
def api(fresh_api: API) -> API:
    for name in ("one", "two", "three"):
        assert fresh_api.upload(name, make_leaf(fresh_api.ca, f"{name}.example.test")).status == 201
    return fresh_api


@pytest.fixture
def run(api: API) -> Run:
    engine = api.parts.store.engine  # type: ignore[attr-defined]

    def run(*arguments: str, code: int = 0) -> Result:
        environment = {
            "CERTORBIT_URL": api.url,
            "CERTORBIT_API_KEY": SECRETS["admin"],
            "CERTORBIT_DATABASE_URL": str(engine.url),
            "CERTORBIT_DATA_DIR": str(api.parts.settings.data_dir),
        }
        result = CliRunner().invoke(app, arguments, env=environment)
        assert result.exit_code == code, result.output
        assert SECRETS["admin"] not in result.output
        return result

    return run


def change_a_row(api: API) -> None:
    engine = api.parts.store.engine  # type: ignore[attr-defined]
    with engine.begin() as connection:
        connection.execute(sa.update(audit_records).where(audit_records.c.number == 2).values(actor_name="nobody"))


def test_the_list_shows_who_did_what(run: Run) -> None:
    said = run("audit", "list", "--object", "two").stdout
    assert "certificate.created" in said
    assert "admin" in said
    assert "127.0.0.1" in said
    assert "1 of 1 records." in said


def test_the_chain_is_checked_over_http_in_the_database_and_in_a_file(api: API, run: Run, tmp_path: Path) -> None:
    head = run("audit", "head").stdout.strip()
    assert f"Its head is {head}" in run("audit", "verify", "--expect", head).stdout
    assert f"Its head is {head}" in run("audit", "verify", "--local", "--expect", head).stdout
    file = tmp_path / "audit.jsonl"
    file.write_bytes(run("audit", "export").stdout_bytes)
    assert f"Its head is {head}" in run("audit", "verify", "--file", str(file), "--expect", head).stdout
    part = tmp_path / "part.jsonl"
    part.write_bytes(run("audit", "export", "--after", "2").stdout_bytes)
    assert json.loads(part.read_text().splitlines()[0])["number"] == 3
    assert f"Its head is {head}" in run("audit", "verify", "--file", str(part)).stdout


def test_a_changed_row_ends_every_check_with_exit_code_1(api: API, run: Run, tmp_path: Path) -> None:
    run("audit", "head")
    change_a_row(api)
    file = tmp_path / "audit.jsonl"
    file.write_bytes(run("audit", "export").stdout_bytes)
    for where in ((), ("--local",), ("--file", str(file))):
        said = run("audit", "verify", *where, code=1).stderr
        assert "does not hold (changed): Record 2 was changed" in said


def test_a_head_that_was_noted_elsewhere_must_still_be_there(run: Run) -> None:
    said = run("audit", "verify", "--expect", f"2:{'1' * 64}", code=1).stderr
    assert "Record 2 has another hash than the one noted elsewhere" in said
    said = run("audit", "verify", "--expect", f"99:{'1' * 64}", code=1).stderr
    assert "Record 99, which was noted elsewhere, is missing" in said
    assert "--expect" in run("audit", "verify", "--expect", "nonsense", code=1).stderr


@pytest.mark.parametrize("content", ["", "nonsense\n", "[]\n", '{"number": "x"}\n'])
def test_what_is_no_export_is_said(run: Run, tmp_path: Path, content: str) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text(content)
    run("audit", "verify", "--file", str(file), code=1)


def test_commands_on_the_machine_itself_are_in_the_trail(run: Run) -> None:
    run("api-keys", "create", "--name", "local", "--role", "auditor")
    document = json.loads(run("audit", "list", "--action", "api-key.created", "--limit", "1", "--json").stdout)
    (record,) = document["items"]
    assert (record["who"]["kind"], record["request"]["route"]) == ("command", "certorbit api-keys create")
    assert record["who"]["name"]
    assert record["number"] is not None

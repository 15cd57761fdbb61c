"""`certorbit api-keys` on a database of its own, and `certorbit maintenance` against a real API."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.server import API, SECRETS, captured_logs
from certorbit.cli.access import read_end
from certorbit.cli.main import app
from certorbit.errors import BadInput
from certorbit.model.access import APIKey, Role
from certorbit.services.api_keys import authenticate
from certorbit.storage import SQLStore, make_engine, migrate
from fakes.clock import FakeChance, FakeClock

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    engine = make_engine(f"sqlite:///{tmp_path / 'certorbit.db'}")  # as a service's first start leaves it
    migrate(engine)
    engine.dispose()

    def run(*arguments: str, code: int = 0) -> str:
        environment = {"CERTORBIT_DATA_DIR": str(tmp_path), "CERTORBIT_LOG_LEVEL": "error", "COLUMNS": "300"}
        result: Result = CliRunner().invoke(app, ["api-keys", *arguments], env=environment)
        assert result.exit_code == code, result.output
        return result.output

    with captured_logs():  # the commands set the process's logs up for themselves
        yield run


async def _find_key(tmp_path: Path, secret: str) -> APIKey:
    clock = FakeClock(datetime.now(tz=UTC), auto_advance=True)
    store = SQLStore(make_engine(f"sqlite:///{tmp_path / 'certorbit.db'}"), clock=clock, chance=FakeChance())
    found = await store.read(lambda tx: authenticate(tx, secret, now=clock.now()))
    await store.close()
    return found.key


def find_key(tmp_path: Path, secret: str) -> APIKey:
    return asyncio.run(_find_key(tmp_path, secret))


def test_a_key_is_made_changed_rotated_and_revoked_on_the_machine(run: Run, tmp_path: Path) -> None:
    boss = run("create", "--name", "boss", "--role", "admin", "--export-keys").strip()
    limits = ("--allow-address", "10.0.0.0/8", "--allow-address", "::1", "--expires", "2040-01-31")
    secret = run("create", "--name", "hook", "--role", "read-only", *limits).strip()
    key = find_key(tmp_path, secret)
    assert (key.name, key.role, key.may_export_keys) == ("hook", Role.VIEWER, False)
    assert key.allowed_addresses == ("10.0.0.0/8", "::1/128")
    assert key.expires_at == datetime(2040, 2, 1, tzinfo=UTC)

    run("change", key.id, "--role", "edge", "--export-keys", "--any-address", "--expires", "never", "--name", "edge-1")
    changed = find_key(tmp_path, secret)
    assert (changed.name, changed.role, changed.may_export_keys) == ("edge-1", Role.EDGE, True)
    assert (changed.allowed_addresses, changed.expires_at) == ((), None)
    run("change", key.id, "--no-export-keys")
    assert (find_key(tmp_path, secret)).may_export_keys is False

    new = run("rotate", key.id, "--overlap-hours", "0.5").strip()
    assert (find_key(tmp_path, secret)).id == (find_key(tmp_path, new)).id == key.id

    run("revoke", key.id)
    shown = run("list")
    assert "revoked" in next(line for line in shown.splitlines() if "edge-1" in line)
    assert not [hidden for hidden in (boss, secret, new) if hidden in shown]


def test_a_program_gets_a_new_keys_record_as_json(run: Run, tmp_path: Path) -> None:
    made = json.loads(run("create", "--name", "hook", "--role", "viewer", "--json"))
    key = find_key(tmp_path, made["key"])
    assert made == {"id": key.id, "name": "hook", "role": "viewer", "key": made["key"]}


def test_what_cannot_be_is_refused_in_one_line(run: Run) -> None:
    run("create", "--name", "boss", "--role", "admin")
    key_id = run("list").splitlines()[1].split()[0]
    assert "last administrator's key" in run("revoke", key_id, code=1)
    assert "last administrator's key" in run("change", key_id, "--role", "viewer", code=1)
    assert "no configuration 'nowhere'" in run("create", "--name", "a", "--config", "nowhere", code=1)
    assert "is no network" in run("create", "--name", "a", "--allow-address", "10.0.0.1/8", code=1)
    assert "There is no API key" in run("rotate", "nobody", code=1)
    assert "'root' is none of admin, operator" in run("create", "--name", "a", "--role", "root", code=2)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("never", None),
        ("2027-01-31", datetime(2027, 2, 1, tzinfo=UTC)),
        ("2027-01-31T12:00:00", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_an_end_is_a_date_an_instant_or_never(text: str, end: datetime | None) -> None:
    assert read_end(text) == end


@pytest.mark.parametrize("text", ["tomorrow", "", "2027-13-01", "9999-12-31"])
def test_what_is_no_end_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--expires: "):
        read_end(text)


def test_maintenance_is_switched_and_shown(fresh_api: API) -> None:
    def run_maintenance(*arguments: str) -> str:
        environment = {"CERTORBIT_URL": fresh_api.url, "CERTORBIT_API_KEY": SECRETS["admin"]}
        result = CliRunner().invoke(app, ["maintenance", *arguments], env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    assert run_maintenance() == "Maintenance is off.\n"
    on = "Maintenance is on: every write is refused, since 2026-11-24 12:00Z by 'admin'.\n"
    assert run_maintenance("on") == on
    assert run_maintenance("status") == on
    assert fresh_api.call("DELETE", "/api/v4.0/conf/prod/certificates/a").status == 403
    assert run_maintenance("off") == "Maintenance is off, since 2026-11-24 12:00Z by 'admin'.\n"
    assert '"is_forced": false' in run_maintenance("--json")

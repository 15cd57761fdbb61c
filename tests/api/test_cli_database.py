"""Commands that work on the database itself: what they do where there is none, and which one they name."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from api.server import captured_logs
from certorbit.app.database import prepare_store
from certorbit.app.key_rotation import open_rewrapping
from certorbit.cli.main import app
from certorbit.settings import Settings
from certorbit.storage import find_schema, make_engine, migrate
from postgres import PostgresServer

PASSPHRASE = "correct horse battery"
Run = Callable[..., Result]
COMMANDS = [
    pytest.param(("backup", "made.bak"), id="backup"),
    pytest.param(("backup", "made.bak", "--with-keyring"), id="backup-with-keyring"),
    pytest.param(("audit", "verify", "--local"), id="audit-verify"),
    pytest.param(("keyring", "rotate"), id="keyring-rotate"),
    pytest.param(("keyring", "rewrap"), id="keyring-rewrap"),
    pytest.param(("api-keys", "create", "--name", "rescue"), id="api-keys-create"),
    pytest.param(("api-keys", "list"), id="api-keys-list"),
    pytest.param(("api-keys", "change", "x", "--name", "y"), id="api-keys-change"),
    pytest.param(("api-keys", "rotate", "x"), id="api-keys-rotate"),
    pytest.param(("api-keys", "revoke", "x"), id="api-keys-revoke"),
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command in an empty directory, as cron does: with nothing of the service's environment."""
    for name in [name for name in os.environ if name.startswith("CERTORBIT_")]:
        monkeypatch.delenv(name)
    here = tmp_path / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*arguments: str, code: int = 0, **environment: str) -> Result:
        result = CliRunner().invoke(app, arguments, env={"CERTORBIT_BACKUP_PASSPHRASE": PASSPHRASE, **environment})
        assert result.exit_code == code, result.output
        return result

    with captured_logs():  # the commands set the process's logs up for themselves
        yield run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as a service's first start leaves it, as far as these commands look."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    settings = Settings(data_dir=folder)

    async def start() -> None:
        async with prepare_store(settings):
            pass
        async with open_rewrapping(settings):
            pass  # makes the first key-encryption key

    asyncio.run(start())
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_where_there_is_no_database_a_command_says_where_it_looked_and_makes_none(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    said = run(*command, code=1)
    here = tmp_path / "elsewhere"
    assert said.stdout == ""
    assert f"There is no database of Certorbit at {here / 'certorbit-data' / 'certorbit.db'}. Set" in said.stderr
    assert "CERTORBIT_DATA_DIR (or CERTORBIT_DATABASE_URL) as the service has it" in said.stderr
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_without_our_tables_is_no_database_of_ours(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "elsewhere" / "other.db"
    for content in (None, "CREATE TABLE holiday_photos (name TEXT)"):
        engine = make_engine(f"sqlite:///{file}")
        if content:
            with engine.begin() as connection:
                connection.exec_driver_sql(content)
        engine.dispose()
        said = run(*command, code=1, CERTORBIT_DATABASE_URL="sqlite:///other.db")
        assert f"There is no database of Certorbit {'in' if content else 'at'} {file}." in said.stderr
        engine = make_engine(f"sqlite:///{file}")
        assert find_schema(engine) is None
        engine.dispose()


def test_an_empty_postgresql_is_named_without_its_password_and_stays_empty(
    run: Run, postgres_server: PostgresServer
) -> None:
    name = postgres_server.create_database()
    url = postgres_server.url(name)
    try:
        for command in (("backup", "made.bak"), ("audit", "verify", "--local"), ("api-keys", "list")):
            said = run(*command, code=1, CERTORBIT_DATABASE_URL=url).stderr
            assert f"There is no database of Certorbit in {name} at {postgres_server.socket_dir}." in said
        engine = make_engine(url)
        assert find_schema(engine) is None
        engine.dispose()
    finally:
        postgres_server.drop_database(name)


@pytest.mark.parametrize("command", [param for param in COMMANDS if "backup" not in str(param.id)])
def test_a_database_of_an_older_version_is_not_migrated_beside_a_service(
    run: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "certorbit.db"
    engine = make_engine(f"sqlite:///{file}")
    migrate(engine, revision="0009")
    said = run(*command, code=1, CERTORBIT_DATA_DIR=str(tmp_path)).stderr
    assert f"The database {file} has schema 0009, this program needs" in said
    assert "Start `certorbit serve` once, which migrates it." in said
    assert find_schema(engine) == "0009"
    engine.dispose()


def test_a_database_of_an_older_version_is_backed_up_as_it_is(run: Run, tmp_path: Path) -> None:
    """Take a backup before the new version's first start: that is the order of an upgrade (docs/operations.md)."""
    engine = make_engine(f"sqlite:///{tmp_path / 'certorbit.db'}")
    migrate(engine, revision="0009")
    made = json.loads(run("backup", "made.bak", "--json", CERTORBIT_DATA_DIR=str(tmp_path)).stdout)
    assert (made["schema"], made["database"]) == ("0009", str(tmp_path / "certorbit.db"))
    assert find_schema(engine) == "0009"
    engine.dispose()


def test_each_command_names_the_database_that_it_worked_on(run: Run, data: Path, tmp_path: Path) -> None:
    where, database = {"CERTORBIT_DATA_DIR": str(data)}, str(data / "certorbit.db")
    assert f"The audit trail of {database} holds: " in run("audit", "verify", "--local", **where).stdout
    rotated = run("keyring", "rotate", **where).stdout
    assert rotated.splitlines()[0].endswith(f", of {database}.")
    assert f" secrets of {database} moved to " in rotated
    file = tmp_path / "elsewhere" / "made.bak"
    said = run("backup", "made.bak", **where).stdout
    assert said.startswith(f"{file}: ")
    assert said.endswith(f" tables from the database {database} (sqlite).\n")
    assert file.read_bytes().splitlines()[0] == b"certorbit-backup"
    assert json.loads(file.read_bytes().splitlines()[1])["database"] == "sqlite"
    new = tmp_path / "new"
    restored = run("restore", "made.bak", code=1, CERTORBIT_DATA_DIR=str(new))  # its key stays where it is
    assert f"are restored into the database {new / 'certorbit.db'}." in restored.stdout


def test_programs_get_the_same_as_json(run: Run, data: Path) -> None:
    where, database = {"CERTORBIT_DATA_DIR": str(data)}, str(data / "certorbit.db")
    rotated = json.loads(run("keyring", "rotate", "--json", **where).stdout)
    assert rotated["database"] == database
    assert (rotated["key"]["id"], rotated["moved"]) == (rotated["sealing_key"], 1)
    assert json.loads(run("keyring", "rewrap", "--json", **where).stdout)["moved"] == 0
    assert "moved" not in json.loads(run("keyring", "rotate", "--no-wait", "--json", **where).stdout)
    made = json.loads(run("backup", "made.bak", "--json", **where).stdout)
    assert (made["kind"], made["database"], made["keyring"]) == ("sqlite", database, False)
    assert made["rows"] > 0
    checked = json.loads(run("audit", "verify", "--local", "--json", **where).stdout)
    assert (checked["holds"], checked["of"], checked["break"]) == (True, database, None)
    assert checked["records"] == checked["head"]["number"] > 0


def test_a_backup_without_a_terminal_says_what_to_set(data: Path, tmp_path: Path) -> None:
    ended = run_detached(data, tmp_path, "backup", "made.bak")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "certorbit: There is no passphrase, and no terminal to ask for one at: set CERTORBIT_BACKUP_PASSPHRASE, or give"
        " --passphrase-file or --recipient.\n"
    )
    public = X25519PrivateKey.generate().public_key()
    (tmp_path / "backup.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    ended = run_detached(data, tmp_path, "backup", "made.bak", "--recipient", "backup.pub")
    assert ended.returncode == 0, ended.stderr
    ended = run_detached(data, tmp_path, "restore", "made.bak")
    assert "or give --passphrase-file or --identity." in ended.stderr


def run_detached(data: Path, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as cron does: without any terminal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
    return subprocess.run(
        [sys.executable, "-m", "certorbit", *command],
        env={**environment, "CERTORBIT_DATA_DIR": str(data)},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )

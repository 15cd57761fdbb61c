"""Migrations: they make what `storage.tables` says, once, whoever starts at the same time."""

import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from certorbit.errors import BadInput, Broken, LostRace, Unreachable
from certorbit.model.entry import EntryUID
from certorbit.model.operation import Lane, OperationKind
from certorbit.storage import SQLStore, check_schema, make_engine, migrate
from certorbit.storage.engine import name_for_people
from certorbit.storage.tables import metadata
from fakes.clock import FakeChance, FakeClock
from records import NOW, PROD, make_attachment, make_change, make_operation

# The tables of DBOS, which live in the same SQLite file (engine.md).
DBOS_TABLES = {
    "notifications", "queues", "streams", "operation_outputs", "application_versions", "event_dispatch_kv",
    "dbos_migrations", "workflow_status", "workflow_input", "workflow_output", "workflow_events",
    "workflow_events_history", "workflow_schedules",
}  # fmt: skip

MIGRATE = "import sys; from certorbit.storage import make_engine, migrate; migrate(make_engine(sys.argv[1]))"


def test_the_migrated_schema_is_that_of_the_tables(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert set(sa.inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
    engine.dispose()


def test_the_comparison_would_see_a_missing_column(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE configurations DROP COLUMN description")
        context = MigrationContext.configure(connection)
        assert [change[0] for change in compare_metadata(context, metadata)] == ["add_column"]
    engine.dispose()


def test_no_table_has_the_name_of_one_of_dbos() -> None:
    assert not DBOS_TABLES & set(metadata.tables)


def test_migrating_again_changes_nothing(database_url: str) -> None:
    engine = make_engine(database_url)
    migrate(engine)
    check_schema(engine)
    engine.dispose()


# What an earlier version wrote: a configuration, an entry, an issuance that goes on and one that has ended.
ROWS_OF_0003 = f"""
INSERT INTO configurations VALUES ('prod', '', 7, '{NOW.isoformat()}');
INSERT INTO entries (uid, config, id, side, source, le_auto_renew, le_auto_replace, identifiers, provider_links, crl,
    input_digest, uploaded, current_version, due_at)
    VALUES ('u1', 'prod', 'shop', 'server', 'generated', TRUE, TRUE, '["a.test"]', '[]', '[]', '', '{NOW.isoformat()}',
    NULL, NULL);
INSERT INTO operations (id, kind, config, entry_id, entry_uid, identifiers, state, attempt, promised, created_at,
    updated_at, issuer_name)
    VALUES ('o1', 'issue', 'prod', 'shop', 'u1', '["a.test"]', 'waiting', 3, TRUE, '{NOW.isoformat()}',
    '{NOW.isoformat()}', 'acme');
INSERT INTO operations (id, kind, config, entry_id, entry_uid, identifiers, state, attempt, promised, created_at,
    updated_at, issuer_name)
    VALUES ('o0', 'renew', 'prod', 'shop', 'u1', '["a.test"]', 'failed', 1, TRUE, '{NOW.isoformat()}',
    '{NOW.isoformat()}', 'acme')
"""


def make_database_of_0003(engine: sa.Engine) -> None:
    config = Config()
    config.set_main_option("script_location", "certorbit.storage:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for statement in ROWS_OF_0003.split(";"):
            connection.exec_driver_sql(statement)


async def test_a_database_from_before_deployments_goes_on(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    make_database_of_0003(engine)
    migrate(engine)
    check_schema(engine)
    store = SQLStore(engine, clock=FakeClock(auto_advance=True), chance=FakeChance())
    uid = EntryUID("u1")

    waiting = await store.write(lambda tx: tx.operations.lock_unfinished(uid))
    assert waiting is not None
    assert (waiting.id, waiting.attempt) == ("o1", 3)
    assert await store.write(lambda tx: tx.operations.lock_unfinished(uid, Lane.DEPLOYMENT)) is None
    with pytest.raises(LostRace):
        await store.write(lambda tx: tx.operations.add(make_operation("o2", entry_uid="u1")))
    deployment = make_operation("o3", entry_uid="u1", kind=OperationKind.DEPLOY)
    await store.write(lambda tx: tx.operations.add(deployment))

    entry = await store.read(lambda tx: tx.entries.get_by_uid(uid))
    assert entry is not None
    await store.write(lambda tx: tx.attachments.add(make_attachment(entry)))
    assert await store.write(lambda tx: tx.configurations.record(PROD, [make_change()], by="ci", now=NOW)) == 8
    versions = await store.read(lambda tx: tx.configurations.list_versions(PROD))
    assert [version.number for version in versions] == [8]
    assert await store.write(lambda tx: tx.schedules.claim_sweep("deployment", now=NOW, every=timedelta(minutes=5)))
    await store.close()


def test_five_processes_may_start_at_once(empty_database_url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, empty_database_url], stderr=subprocess.PIPE) for _ in range(5)
    ]
    outcomes = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert outcomes == [(b"", 0)] * 5
    engine = make_engine(empty_database_url)
    check_schema(engine)
    engine.dispose()


def test_an_empty_database_fails_the_check_with_advice(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    with pytest.raises(Broken, match=r"has schema none, this program needs .* `certorbit serve`"):
        check_schema(engine)
    engine.dispose()


def test_the_schema_of_a_newer_program_is_left_alone(database_url: str) -> None:
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Broken, match="9999, which this program does not know"):
        migrate(engine)
    with pytest.raises(Broken, match="9999, which this program does not know"):
        check_schema(engine)
    engine.dispose()


def test_a_failed_migration_leaves_nothing_behind(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:  # in the way of the last table
        connection.exec_driver_sql("CREATE TABLE authority_counters (x INTEGER)")
    with pytest.raises(Broken):
        migrate(engine)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["authority_counters"]
    engine.dispose()


def test_a_new_sqlite_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "certorbit.db"
    engine = make_engine(f"sqlite:///{path}")
    migrate(engine)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    engine.dispose()
    assert modes == {"certorbit.db": 0o600, "certorbit.db-wal": 0o600, "certorbit.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_every_sqlite_connection_is_set_up_for_durability(sqlite_url: str) -> None:
    engine = make_engine(sqlite_url)
    with engine.connect() as connection:
        values = {
            pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30000}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("statement_timeout", "30s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("TimeZone", "UTC"),
        ("application_name", "certorbit"),
        ("transaction_isolation", "read committed"),
    ],
)
def test_every_postgresql_session_is_bounded(postgres_url: str, setting: str, value: str) -> None:
    engine = make_engine(postgres_url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"SHOW {setting}").scalar_one() == value
    engine.dispose()


def test_the_operators_own_options_win(postgres_url: str) -> None:
    engine = make_engine(f"{postgres_url}&options=-c%20statement_timeout%3D7000&application_name=mine")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "7s"
        assert connection.exec_driver_sql("SHOW application_name").scalar_one() == "mine"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "10s"
    engine.dispose()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg(scheme: str) -> None:
    engine = make_engine(f"{scheme}://me:secret@db.example.test:5433/certs")
    assert engine.driver == "psycopg"
    assert name_for_people(engine) == "certs at db.example.test"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("mysql://me:secret@host/name", "'mysql' is not supported", id="refused/mysql"),
        pytest.param("postgresql+asyncpg://me:secret@h/n", "'postgresql\\+asyncpg' is not", id="refused/driver"),
        pytest.param("sqlite://", "a database in memory forgets", id="refused/no file"),
        pytest.param("sqlite:///:memory:", "a database in memory forgets", id="refused/memory"),
        pytest.param("me:secret", "is no URL", id="refused/no url"),
    ],
)
def test_other_urls_are_refused_without_showing_a_password(url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refusal:
        make_engine(url)
    assert "secret" not in refusal.value.message


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable, match=r"file/certorbit\.db can't be opened: "):
        make_engine(f"sqlite:///{tmp_path}/file/certorbit.db")

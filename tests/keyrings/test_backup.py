"""Backup and restore of a database's rows, on both databases and across, without a service (e2e has those)."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from certorbit.app.backup import OpenBackup, make_backup, restore_backup
from certorbit.app.keyring_file import check_keyring_fits, check_restored, put_keyring
from certorbit.errors import BadInput, Broken, CertorbitError, NotFound, Refused
from certorbit.keys.sealed_stream import Passphrase
from certorbit.keys.sources import key_file
from certorbit.settings import Settings
from certorbit.storage import SQLStore, check_schema, make_engine, migrate
from certorbit.storage.dump import open_snapshot
from certorbit.workflows.engine import Engine
from fakes.clock import FakeChance, FakeClock
from keyrings.sealed_rows import FILE_KEY, assert_all_open, make_settings, open_keeper, seal_everywhere
from keyrings.test_sealed_stream import KnownKey
from postgres import PostgresServer
from records import PROD, make_change, make_configuration, make_operation

LOCK = KnownKey()


@pytest.fixture(params=["sqlite", "postgres"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database to restore into."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'elsewhere' / 'certorbit.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def same_url(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[str]:
    """An empty database of the same kind as `database_url`."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'elsewhere' / 'certorbit.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


def settings_of(url: str, folder: Path, key: str = FILE_KEY) -> Settings:
    return Settings(database_url=url, data_dir=folder, key_encryption_key=key)


def prepare_workflows(url: str) -> None:
    engine = Engine(database_url=url, clock=FakeClock(), chance=FakeChance(), max_in_flight=1)
    engine.prepare()
    engine.close()


@contextmanager
def opened(url: str) -> Iterator[SQLStore]:
    store = SQLStore(make_engine(url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    yield store
    asyncio.run(store.close())


async def fill(url: str, folder: Path) -> int:
    """Fill a database with a bit of everything; return how many secrets it has."""
    store = SQLStore(make_engine(url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    keeper = await open_keeper(make_settings(folder), store, FakeClock())
    await seal_everywhere(store, keeper.keyring)
    await store.write(lambda tx: tx.operations.add(make_operation("o1")))
    await store.write(lambda tx: tx.configurations.record(PROD, [make_change()], by="ci", now=FakeClock().now()))
    for name in ("a", "b"):  # numbered rows: PostgreSQL counts them by a sequence
        await store.write(lambda tx, name=name: tx.quotas.add(name, "import", at=FakeClock().now()))
    count = await assert_all_open(store, keeper.keyring)
    keeper.close()
    await store.close()
    return count


def dump(url: str) -> dict[str, list[str]]:
    """Return all rows of a database, but those about keys: opening a keyring may write them."""
    engine = make_engine(url)
    schemas = (None,) if engine.dialect.name == "sqlite" else (None, "dbos")
    with open_snapshot(engine, schemas=schemas) as snapshot:
        rows = {table.name: sorted(table.rows) for table in snapshot.tables()}
    engine.dispose()
    return rows


def test_a_restored_database_is_the_one_that_was_backed_up(database_url: str, new_url: str, tmp_path: Path) -> None:
    prepare_workflows(database_url)
    secrets = asyncio.run(fill(database_url, tmp_path))
    file = tmp_path / "backup"
    manifest = make_backup(settings_of(database_url, tmp_path), file, lock=LOCK, with_keyring=False)
    assert file.stat().st_mode & 0o777 == 0o600
    assert manifest.counts["versions"] == 4
    assert not [name for name in tmp_path.iterdir() if name.name.endswith(".part")]

    elsewhere = settings_of(new_url, tmp_path / "elsewhere")
    backup = OpenBackup(file, unlock=LOCK)
    assert backup.keyring is None
    restore_backup(elsewhere, backup)
    assert dump(new_url) == dump(database_url)
    check_schema(make_engine(new_url))
    check_restored(elsewhere)

    async def look() -> None:
        store = SQLStore(make_engine(new_url), clock=FakeClock(auto_advance=True), chance=FakeChance())
        keeper = await open_keeper(elsewhere, store, FakeClock())
        assert await assert_all_open(store, keeper.keyring) == secrets
        # Numbers go on behind the highest.
        await store.write(lambda tx: tx.quotas.add("c", "import", at=FakeClock().now()))
        keeper.close()
        await store.close()

    asyncio.run(look())
    with pytest.raises(Refused, match="is not empty"):
        restore_backup(elsewhere, backup)


def test_work_that_somebody_held_waits_for_nobody_after_a_restore(
    database_url: str, same_url: str, tmp_path: Path
) -> None:
    prepare_workflows(database_url)
    table = "workflow_status" if database_url.startswith("sqlite") else "dbos.workflow_status"
    engine = make_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO {table} (workflow_uuid, status, name, executor_id, queue_name, owner_xid, priority, application_name)"
            " VALUES ('w1', 'PENDING', 'issue', 'a-worker-that-is-gone', 'issuance', '7', 0, 'certorbit')"
        )
    engine.dispose()
    make_backup(settings_of(database_url, tmp_path), tmp_path / "backup", lock=LOCK, with_keyring=False)
    restore_backup(settings_of(same_url, tmp_path / "elsewhere"), OpenBackup(tmp_path / "backup", unlock=LOCK))
    engine = make_engine(same_url)
    with engine.connect() as connection:
        held = connection.exec_driver_sql(f"SELECT status, owner_xid, queue_name FROM {table}").one()
    engine.dispose()
    assert tuple(held) == ("ENQUEUED", None, "issuance")


def test_a_backup_is_of_one_instant_while_others_write(database_url: str, tmp_path: Path) -> None:
    asyncio.run(fill(database_url, tmp_path))
    is_enough, pairs = threading.Event(), []

    async def write() -> None:
        """Write configurations and operations in pairs: a snapshot has as many of one as of the other."""
        store = SQLStore(make_engine(database_url), clock=FakeClock(auto_advance=True), chance=FakeChance())
        number = 0
        while not is_enough.is_set():
            number += 1
            name = f"pair-{number}"

            def add(tx: object, name: str = name) -> None:
                tx.configurations.add(make_configuration(name))  # type: ignore[attr-defined]
                tx.operations.add(make_operation(name, entry_uid=name))  # type: ignore[attr-defined]

            await store.write(add)
            pairs.append(name)
        await store.close()

    writer = threading.Thread(target=lambda: asyncio.run(write()))
    writer.start()
    try:
        while len(pairs) < 5:
            threading.Event().wait(0.01)
        for number in range(5):
            manifest = make_backup(
                settings_of(database_url, tmp_path), tmp_path / f"backup-{number}", lock=LOCK, with_keyring=False
            )
            assert manifest.counts["configurations"] == manifest.counts["operations"]
            assert OpenBackup(tmp_path / f"backup-{number}", unlock=LOCK).manifest == manifest
    finally:
        is_enough.set()
        writer.join()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    empty_database_url: str, new_url: str, tmp_path: Path
) -> None:
    engine = make_engine(empty_database_url)
    migrate(engine, revision="0004")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO configurations (id, description, version, date)"
            " VALUES ('prod', 'old', 7, '2026-01-01T00:00:00.000000+00:00')"
        )
    engine.dispose()
    make_backup(settings_of(empty_database_url, tmp_path), tmp_path / "backup", lock=LOCK, with_keyring=False)
    backup = OpenBackup(tmp_path / "backup", unlock=LOCK)
    assert backup.manifest.revision == "0004"
    restore_backup(settings_of(new_url, tmp_path / "elsewhere"), backup)
    check_schema(make_engine(new_url))
    with opened(new_url) as store:
        (configuration,) = asyncio.run(store.read(lambda tx: tx.configurations.list()))
    assert (configuration.description, configuration.version) == ("old", 7)


def test_a_backup_of_a_newer_program_is_refused_before_anything_is_written(
    sqlite_url: str, new_url: str, tmp_path: Path
) -> None:
    make_backup(settings_of(sqlite_url, tmp_path), tmp_path / "backup", lock=LOCK, with_keyring=False)
    backup = OpenBackup(tmp_path / "backup", unlock=LOCK)
    backup.manifest = replace(backup.manifest, revision="9999")
    with pytest.raises(Broken, match="a newer Certorbit made it"):
        restore_backup(settings_of(new_url, tmp_path / "elsewhere"), backup)
    engine = make_engine(new_url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_restore_that_fails_can_be_done_again(database_url: str, same_url: str, tmp_path: Path) -> None:
    prepare_workflows(database_url)
    asyncio.run(fill(database_url, tmp_path))
    make_backup(settings_of(database_url, tmp_path), tmp_path / "backup", lock=LOCK, with_keyring=False)

    class FullDisk(OpenBackup):
        """Fails in the middle of the rows."""

        broken = False

        def tables(self) -> Iterator[tuple[str, object, Iterator[str]]]:  # type: ignore[override]
            for number, table in enumerate(super().tables()):
                if self.broken and number == 3:
                    raise BadInput("the medium can't be read")
                yield table

    backup = FullDisk(tmp_path / "backup", unlock=LOCK)
    elsewhere = settings_of(same_url, tmp_path / "elsewhere")
    backup.broken = True
    with pytest.raises(BadInput, match="medium"):
        restore_backup(elsewhere, backup)
    backup.broken = False
    restore_backup(elsewhere, backup)
    assert dump(same_url) == dump(database_url)
    assert [path.name for path in (tmp_path / "elsewhere").glob("*restoring*")] == []


def test_a_database_that_was_in_use_or_is_another_s_is_never_written_to(
    database_url: str, same_url: str, tmp_path: Path
) -> None:
    make_backup(settings_of(database_url, tmp_path), tmp_path / "backup", lock=LOCK, with_keyring=False)
    backup = OpenBackup(tmp_path / "backup", unlock=LOCK)
    engine = make_engine(same_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE holiday_photos (name TEXT)")
    engine.dispose()
    with pytest.raises(Refused, match="is not empty"):
        restore_backup(settings_of(same_url, tmp_path / "elsewhere"), backup)
    engine = make_engine(same_url)
    assert sa.inspect(engine).get_table_names() == ["holiday_photos"]
    engine.dispose()


def test_an_empty_database_has_nothing_to_back_up(empty_database_url: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no database of Certorbit"):
        make_backup(settings_of(empty_database_url, tmp_path), tmp_path / "backup", lock=LOCK, with_keyring=False)
    assert not (tmp_path / "backup").exists()


def test_a_file_that_is_there_is_not_overwritten(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("last week's")
    with pytest.raises(Refused, match="is there already"):
        make_backup(settings_of(sqlite_url, tmp_path), file, lock=LOCK, with_keyring=False)
    assert file.read_text() == "last week's"
    with pytest.raises(Refused, match="can't be written: No such file or directory"):
        make_backup(settings_of(sqlite_url, tmp_path), tmp_path / "no" / "b", lock=LOCK, with_keyring=False)


async def start(settings: Settings) -> None:
    """Open the keyring as a first start does, which makes the key file."""
    store = SQLStore(make_engine(settings.url), clock=FakeClock(auto_advance=True), chance=FakeChance())
    keeper = await open_keeper(settings, store, FakeClock())
    keeper.close()
    await store.close()


def test_the_key_file_goes_along_only_if_wanted_and_never_over_another(sqlite_url: str, tmp_path: Path) -> None:
    here = settings_of(sqlite_url, tmp_path / "here", "")
    asyncio.run(start(here))
    key = key_file(here).read_text().strip()
    make_backup(here, tmp_path / "without", lock=LOCK, with_keyring=False)
    make_backup(here, tmp_path / "with", lock=Passphrase("correct horse battery"), with_keyring=True)
    for name in ("without", "with"):
        assert key.encode() not in (tmp_path / name).read_bytes()

    there = settings_of(f"sqlite:///{tmp_path / 'there' / 'certorbit.db'}", tmp_path / "there", "")
    restore_backup(there, OpenBackup(tmp_path / "without", unlock=LOCK))
    with pytest.raises(CertorbitError, match=f"put its file back at {key_file(there)}"):
        check_restored(there)

    backup = OpenBackup(tmp_path / "with", unlock=Passphrase("correct horse battery"))
    assert backup.keyring is not None
    place = check_keyring_fits(there, backup.keyring)
    assert place == key_file(there)
    put_keyring(place, backup.keyring, there)
    check_restored(there)
    assert check_keyring_fits(there, backup.keyring) is None, "it is there already"
    assert check_keyring_fits(here, backup.keyring) is None

    other = there.model_copy(update={"key_encryption_key": SecretStr(FILE_KEY)})
    with pytest.raises(Refused, match="holds keys that are not in CERTORBIT_KEY_ENCRYPTION_KEY"):
        check_keyring_fits(other, backup.keyring)
    with pytest.raises(NotFound, match="There is no key file"):
        make_backup(settings_of(sqlite_url, tmp_path / "none", ""), tmp_path / "x", lock=LOCK, with_keyring=True)

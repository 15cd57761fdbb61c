"""Brings a database to this program's schema. Several processes may start at once: one migrates, the others wait."""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from certorbit.errors import Broken
from certorbit.storage.engine import READS_ONLY, name_for_people
from certorbit.storage.failures import translate

# The name of the lock among PostgreSQL's advisory locks: any number that nobody else uses.
_ADVISORY_LOCK = 0x6365_7274_6F72_6269  # "certorbi"


def migrate(engine: sa.Engine, *, revision: str = "head") -> None:
    """Run the missing migrations, all in one transaction: a crash leaves the old schema whole.

    Waits for another process that migrates (SQLite: its write lock, 30 s; PostgreSQL: an advisory lock, 60 s). On
    PostgreSQL a table that others hold for over 5 s ends the migration instead of queueing all requests behind it.

    revision: how far; an older one only for a backup of that time, which is to be loaded.

    Raises:
        Broken: a newer program made the schema.
        Unreachable: the database can't be used, or others held a lock for too long.
        LostRace: SQLite's write lock was held for too long.
    """
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL lock_timeout = '60s'")
                connection.exec_driver_sql("SET LOCAL statement_timeout = '300s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
                connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            config = _config()
            _check_known(connection, config, database=name_for_people(engine))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except sa.exc.SQLAlchemyError as error:
        raise translate(error, database=name_for_people(engine), is_writing=True) from error


def check_known(revision: str) -> None:
    """Return if this program knows the schema. Raises Broken: a newer one made it."""
    try:
        ScriptDirectory.from_config(_config()).get_revision(revision)
    except CommandError as error:
        raise Broken(
            f"The schema {revision[:40]} is not known to this program: a newer Certorbit made it. Use that version."
        ) from error


def find_schema(engine: sa.Engine) -> str | None:
    """Return the revision of the database's schema; None: nothing of ours is in it.

    Raises:
        Broken: a newer program made it.
        Unreachable: the database can't be used.
    """
    database = name_for_people(engine)
    try:
        with engine.execution_options(**{READS_ONLY: True}).connect() as connection:
            return _check_known(connection, _config(), database=database)
    except sa.exc.SQLAlchemyError as error:
        raise translate(error, database=database, is_writing=False) from error


def check_schema(engine: sa.Engine) -> None:
    """Return if the database has this program's schema.

    Raises:
        Broken: it is empty, older or newer; the message says what to do.
        Unreachable: the database can't be used.
    """
    database, found = name_for_people(engine), find_schema(engine)
    wanted = ScriptDirectory.from_config(_config()).get_current_head()
    if found != wanted:
        raise Broken(
            f"The database {database} has schema {found or 'none'}, this program needs {wanted}. Start"
            " `certorbit serve` once, which migrates it.",
            subject=database,
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "certorbit.storage:migrations")
    return config


def _check_known(connection: sa.Connection, config: Config, *, database: str) -> str | None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None:
        try:
            ScriptDirectory.from_config(config).get_revision(found)
        except CommandError as error:
            raise Broken(
                f"The database {database} has schema {found}, which this program does not know: a newer Certorbit"
                " made it. Start that version, or restore a backup from before its first start.",
                subject=database,
            ) from error
    return found

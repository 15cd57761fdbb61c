"""The settings' database: which one it is, and how it is opened.

Only `serve`, `worker` and `restore` make a database or bring one to this program's schema. Every other command works on
one that is there: in another directory, or without the service's environment, the settings name none or another one,
and a command that made it would report success on nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa

from certorbit.app.ground import CHANCE, CLOCK
from certorbit.errors import NotFound, Refused
from certorbit.settings import Settings
from certorbit.storage import SQLStore, check_schema, find_schema, make_engine, migrate, name_of_url


def name_database(settings: Settings) -> str:
    """Return which database the settings name: a file's absolute path, or name and host. Raises BadInput."""
    return name_of_url(settings.url)


def check_database(settings: Settings) -> None:
    """Return if there is a database of ours, of whatever schema this program knows. Nothing is made.

    Raises:
        NotFound: there is none; the message says where it was looked for.
        Broken: a newer program made its schema.
        Refused, Unreachable: it can't be looked at.
    """
    _open_existing(settings).dispose()


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[SQLStore]:
    """Give the store of the settings' database, which must be there and have this program's schema.

    Raises:
        NotFound, Refused, Unreachable: see `check_database`.
        Broken: its schema is older or newer; the message says what to do.
    """
    engine = _open_existing(settings)
    try:
        check_schema(engine)
    except BaseException:
        engine.dispose()
        raise
    async with _joined(engine) as store:
        yield store


@asynccontextmanager
async def prepare_store(settings: Settings) -> AsyncIterator[SQLStore]:
    """Give the store of the settings' database, made or migrated if it has to be: for processes of the service.

    Raises:
        CertorbitError: see `storage.migrate`.
    """
    engine = make_engine(settings.url)
    migrate(engine)
    async with _joined(engine) as store:
        yield store


@asynccontextmanager
async def _joined(engine: sa.Engine) -> AsyncIterator[SQLStore]:
    store = SQLStore(engine, clock=CLOCK, chance=CHANCE)
    try:
        yield store
    finally:
        await store.close()


def _open_existing(settings: Settings) -> sa.Engine:
    name = name_database(settings)
    # Before the engine, which would make the file.
    if settings.is_sqlite and not _has_content(Path(name)):
        raise _missing(f"at {name}", name)
    engine = make_engine(settings.url)
    try:
        found = find_schema(engine)
    except BaseException:
        engine.dispose()
        raise
    if found is None:
        engine.dispose()
        raise _missing(f"in {name}", name)
    return engine


def _has_content(path: Path) -> bool:
    """Return whether the file is there and not empty. Raises Refused: this user may not even look."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise Refused(
            f"The database {path} can't be looked at: {error.strerror}. Run this as the service's user.",
            subject=str(path),
        ) from error


def _missing(place: str, name: str) -> NotFound:
    return NotFound(
        f"There is no database of Certorbit {place}. Set CERTORBIT_DATA_DIR (or CERTORBIT_DATABASE_URL) as the service"
        " has it. A new database is made by `certorbit serve`.",
        subject=name,
    )

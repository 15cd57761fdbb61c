"""What the databases and their drivers raise, in our words. The only place that knows their codes."""

import sqlite3

import psycopg
import sqlalchemy as sa

from certorbit.errors import Broken, CertorbitError, LostRace, Unreachable

_UNIQUE = {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID"}
_UNIQUE_VIOLATION = "23505"
# An entry was deleted while it was being attached. Who attaches has found the entry in the same transaction, and who
# deletes has looked for attachments; SQLite has one writer at a time, so there it would be a bug as any other.
_FOREIGN_KEY_VIOLATION = "23503"
_RACING_REFERENCE = "fk_attachments_needed_entry"
# PostgreSQL's appendix A: serialization_failure, deadlock_detected.
_LOST_RACE = {"40001", "40P01"}
# 'Not now' in PostgreSQL's appendix A. Classes: connection, resources (disk full, too many connections), operator
# intervention (shutdown, statement timeout), system error. Code: lock timeout.
_NOT_NOW_CLASSES = ("08", "53", "57", "58")
_NOT_NOW = {"55P03"}
_READ_ONLY = "25006"
_NOT_NOW_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_NOMEM")
_BUSY_SQLITE = ("SQLITE_BUSY", "SQLITE_LOCKED")


def translate(error: sa.exc.SQLAlchemyError | sqlite3.Error, *, database: str, is_writing: bool) -> CertorbitError:
    """Return our error for theirs.

    Args:
        database: which database, as shown to people: never with a password.
        is_writing: whether the transaction is one that may write.

    Returns: LostRace when the transaction can be run again from its start; Unreachable when the database can't be
        used now; what a column type raised (BadInput); Broken for everything else. Statements and parameters
        stay out of the message: they may hold secrets.
    """
    cause = error.orig if isinstance(error, sa.exc.StatementError) else error
    if isinstance(cause, CertorbitError):  # raised by a column type
        return cause
    if isinstance(cause, sa.exc.TimeoutError):
        return _unreachable(database, "all connections are in use")
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate == _READ_ONLY and not is_writing:
            return Broken("A function that was to read only has written.", subject=database)
        return _translate_postgresql(cause, database=database)
    if isinstance(cause, sqlite3.Error):
        return _translate_sqlite(cause, database=database)
    return Broken(f"The database layer failed: {type(cause).__name__}.", subject=database)


def _translate_postgresql(error: psycopg.Error, *, database: str) -> CertorbitError:
    state = error.sqlstate
    constraint = error.diag.constraint_name
    if state == _UNIQUE_VIOLATION:
        return LostRace(f"A row with the same key was written meanwhile ({constraint}).")
    if state in _LOST_RACE or (state == _FOREIGN_KEY_VIOLATION and constraint == _RACING_REFERENCE):
        return LostRace(f"Another transaction came first (SQLSTATE {state}).")
    if state == _READ_ONLY:
        return _unreachable(database, "it is a standby, which takes no writes")
    if state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return _unreachable(database, "no connection, or it was lost")
    if state is not None and (state in _NOT_NOW or state.startswith(_NOT_NOW_CLASSES)):
        return _unreachable(database, f"SQLSTATE {state}, {error.diag.message_primary or type(error).__name__}")
    return Broken(f"The database refused a statement (SQLSTATE {state}, {type(error).__name__}).", subject=database)


def _translate_sqlite(error: sqlite3.Error, *, database: str) -> CertorbitError:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name in _UNIQUE:
        return LostRace("A row with the same key was written meanwhile.")
    if name.startswith(_BUSY_SQLITE):
        return LostRace("The database is locked by another writer.")
    if name == "SQLITE_FULL":
        return _unreachable(database, "the disk is full; make room")
    if name.startswith(_NOT_NOW_SQLITE):
        return _unreachable(database, f"{name}; check the disk and the permissions of the file and its folder")
    return Broken(f"The database refused a statement ({name or type(error).__name__}).", subject=database)


def _unreachable(database: str, why: str) -> Unreachable:
    return Unreachable(f"The database {database} can't be used now: {why}.", subject=database, phase="database")

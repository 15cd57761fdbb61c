"""`certorbit backup` and `certorbit restore`: they work on the settings' database, beside or before a service."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from certorbit.cli import showing
from certorbit.cli.failing import clear_errors
from certorbit.cli.memory import forbid_memory_dumps
from certorbit.cli.operator import AsJSONHere
from certorbit.errors import BadInput, CertorbitError, Refused
from certorbit.settings import Settings

PASSPHRASE = "CERTORBIT_BACKUP_PASSPHRASE"  # noqa: S105 - its name

PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help=f"File with the passphrase on its first line; else {PASSPHRASE}, or asked"),
]


def backup(
    file: Annotated[Path, typer.Argument(help="The new file")],
    recipient: Annotated[
        Path | None, typer.Option(help="X25519 public key (PEM): only its owner can restore; no passphrase then")
    ] = None,
    passphrase_file: PassphraseFile = None,
    with_keyring: Annotated[
        bool, typer.Option("--with-keyring", help="Put the key of CERTORBIT_KEY_ENCRYPTION_KEY or the key file in, too")
    ] = False,
    as_json: AsJSONHere = False,
) -> None:
    """Write the database into one encrypted file; services go on meanwhile.

    Private keys are sealed in it as they are in the database: a restore needs the same key-encryption key.
    """
    with clear_errors():
        from certorbit.app.backup import make_backup  # noqa: PLC0415 - it takes its time
        from certorbit.app.database import check_database, name_database  # noqa: PLC0415 - as above
        from certorbit.app.local_audit import record_backup  # noqa: PLC0415 - as above
        from certorbit.keys.sealed_stream import Passphrase, Recipient  # noqa: PLC0415 - as above

        forbid_memory_dumps()
        settings = Settings()
        check_database(settings)  # before anybody is asked for a passphrase
        lock = (
            Recipient(_read(recipient, "recipient"))
            if recipient is not None
            else Passphrase(_ask_passphrase(passphrase_file, is_new=True))
        )
        record_backup(settings, with_keyring=with_keyring)
        manifest = make_backup(settings, file, lock=lock, with_keyring=with_keyring)
        document = {
            "file": str(file.absolute()),
            "database": name_database(settings),
            "kind": manifest.database,
            "created_at": manifest.created_at,
            "schema": manifest.revision,
            "rows": sum(manifest.counts.values()),
            "tables": len(manifest.counts),
            "keyring": manifest.has_keyring,
        }
        showing.show(document, as_json=as_json, for_people=_show_backup)


def restore(
    file: Annotated[Path, typer.Argument(help="The backup")],
    identity: Annotated[
        Path | None, typer.Option(help="X25519 private key (PEM) of a backup that was made for a recipient")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Restore a backup into the settings' database, which must be new. No service may run on it yet.

    The whole file is checked before anything is written. SQLite and PostgreSQL take each other's backups.
    """
    with clear_errors():
        from certorbit.app.backup import OpenBackup, restore_backup  # noqa: PLC0415 - it takes its time
        from certorbit.app.database import name_database  # noqa: PLC0415 - as above
        from certorbit.app.keyring_file import check_keyring_fits, check_restored, put_keyring  # noqa: PLC0415 - as above
        from certorbit.app.local_audit import record_restore  # noqa: PLC0415 - as above
        from certorbit.keys.sealed_stream import Identity, Passphrase  # noqa: PLC0415 - as above

        forbid_memory_dumps()
        settings = Settings()
        if identity is not None:
            opened = OpenBackup(file, unlock=Identity(_read(identity, "identity")))
        else:
            opened = OpenBackup(file, unlock=Passphrase(_ask_passphrase(passphrase_file, is_new=False)))
        # Before anything is written, too: keys that would be in the way.
        place = check_keyring_fits(settings, opened.keyring) if opened.keyring is not None else None
        restore_backup(settings, opened)
        record_restore(settings, made_at=opened.manifest.created_at)
        if place is not None and opened.keyring is not None:
            put_keyring(place, opened.keyring, settings)
        rows = sum(opened.manifest.counts.values())
        print(f"{rows} rows of {opened.manifest.created_at} are restored into the database {name_database(settings)}.")
        try:
            check_restored(settings)
        except CertorbitError as error:
            raise Refused(f"The database is restored, but its keys can't be opened yet: {error.message}") from error


def add_backup_commands(app: typer.Typer) -> None:
    app.command("backup")(backup)
    app.command("restore")(restore)


def _show_backup(document: Any) -> str:
    return showing.plain(
        f"{document['file']}: {document['rows']} rows of {document['tables']} tables from the database"
        f" {document['database']} ({document['kind']})."
    )


def _ask_passphrase(file: Path | None, *, is_new: bool) -> str:
    if file is not None:
        return _read(file, "passphrase-file").decode(errors="replace").partition("\n")[0].rstrip("\r")
    if text := os.environ.get(PASSPHRASE, ""):
        return text
    if not _has_terminal():
        key = "--recipient" if is_new else "--identity"
        raise BadInput(
            "There is no passphrase, and no terminal to ask for one at: set CERTORBIT_BACKUP_PASSPHRASE, or give"
            f" --passphrase-file or {key}."
        )
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=is_new, err=True))


def _has_terminal() -> bool:
    """Return whether somebody can be asked: getpass looks for the process's terminal before standard input."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"--{option}: {path} can't be read: {error.strerror}.") from error

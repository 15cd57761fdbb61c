"""`certorbit backup` and `certorbit restore`: they work on the settings' database, beside or before a service."""

import os
from pathlib import Path
from typing import Annotated

import typer

from certorbit.cli.failing import clear_errors
from certorbit.cli.memory import forbid_memory_dumps
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
) -> None:
    """Write the database into one encrypted file; services go on meanwhile.

    Private keys are sealed in it as they are in the database: a restore needs the same key-encryption key.
    """
    with clear_errors():
        from certorbit.app.backup import make_backup  # noqa: PLC0415 - it takes its time
        from certorbit.app.local_audit import record_backup  # noqa: PLC0415 - as above
        from certorbit.keys.sealed_stream import Passphrase, Recipient  # noqa: PLC0415 - as above

        forbid_memory_dumps()
        if recipient is not None:
            record_backup(Settings(), with_keyring=with_keyring)
            manifest = make_backup(
                Settings(), file, lock=Recipient(_read(recipient, "recipient")), with_keyring=with_keyring
            )
        else:
            lock = Passphrase(_ask_passphrase(passphrase_file, is_new=True))
            record_backup(Settings(), with_keyring=with_keyring)
            manifest = make_backup(Settings(), file, lock=lock, with_keyring=with_keyring)
        print(f"{file}: {sum(manifest.counts.values())} rows of {len(manifest.counts)} tables, {manifest.database}.")


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
        print(f"{sum(opened.manifest.counts.values())} rows of {opened.manifest.created_at} are restored.")
        try:
            check_restored(settings)
        except CertorbitError as error:
            raise Refused(f"The database is restored, but its keys can't be opened yet: {error.message}") from error


def add_backup_commands(app: typer.Typer) -> None:
    app.command("backup")(backup)
    app.command("restore")(restore)


def _ask_passphrase(file: Path | None, *, is_new: bool) -> str:
    if file is not None:
        return _read(file, "passphrase-file").decode(errors="replace").partition("\n")[0].rstrip("\r")
    if text := os.environ.get(PASSPHRASE, ""):
        return text
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=is_new, err=True))


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"--{option}: {path} can't be read: {error.strerror}.") from error

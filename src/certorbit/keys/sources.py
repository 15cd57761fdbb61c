"""Where key-encryption keys come from: the settings, or a file in the data directory that is made once.

Both hold one or more keys, each 32 bytes as base64, separated by white space or commas: the first seals, all open.
"""

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path

from certorbit.errors import BadInput, NotFound
from certorbit.keys.envelope import KEY_BYTES, KeyEncryptionKey
from certorbit.settings import Settings

_LARGEST_FILE = 65_536  # bytes; a thousand keys


def key_file(settings: Settings) -> Path:
    """Return where the key file is, or would be."""
    return settings.data_dir / "keyring" / "key-encryption-key"


def load_keys(settings: Settings) -> list[KeyEncryptionKey]:
    """Return the keys that exist, the first one first.

    Raises:
        NotFound: the settings hold no key and there is no key file.
        BadInput: the key is malformed, or the file is not for our eyes alone; the message says what to do.
    """
    is_configured = bool(settings.key_encryption_key.get_secret_value().strip())
    return _parse_keys(
        read_key_text(settings), source="key_encryption_key" if is_configured else str(key_file(settings))
    )


def read_key_text(settings: Settings) -> str:
    """Return the keys as the setting or the file has them: for an encrypted backup. Raises as `load_keys`."""
    configured = settings.key_encryption_key.get_secret_value()
    return configured if configured.strip() else _read_private(key_file(settings))


def load_or_create_keys(settings: Settings) -> list[KeyEncryptionKey]:
    """Return the keys; make the key file if there is none. Of two processes that do so at once, one makes it.

    Only for a database that holds nothing sealed: `check.open_keyring` decides.

    Raises:
        BadInput: as for `load_keys`, or the file can't be made.
    """
    try:
        return load_keys(settings)
    except NotFound:
        write_key_file(key_file(settings), base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        return load_keys(settings)


def _parse_keys(text: str, *, source: str) -> list[KeyEncryptionKey]:
    keys = []
    for word in text.replace(",", " ").split():
        try:
            key = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise BadInput(
                f"{source}: a key-encryption key is exactly {KEY_BYTES} bytes as base64 (44 characters);"
                " `openssl rand -base64 32` makes one.",
                subject=source,
            ) from None  # the cause would show the key
        keys.append(KeyEncryptionKey(key))
    if not keys:
        raise BadInput(
            f"{source}: there is no key in it. Restore it from a backup: what it sealed opens with nothing else.",
            subject=source,
        )
    return keys


def _read_private(path: Path) -> str:
    """Return the text of a file that belongs to us and that nobody else can read."""
    try:
        # The descriptor is checked, not the path: nobody can put another file there in between.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"There is no key file {path}.", subject=str(path)) from error
    except OSError as error:
        raise BadInput(f"The key file {path} can't be read: {error.strerror}.", subject=str(path)) from error
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"The key file {path} is no regular file.", subject=str(path))
        if status.st_uid != os.geteuid():
            raise BadInput(
                f"The key file {path} belongs to user {status.st_uid}, but Certorbit runs as {os.geteuid()}."
                f" Run: chown {os.geteuid()} {path}",
                subject=str(path),
            )
        if status.st_mode & 0o077:
            raise BadInput(
                f"The key file {path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o})."
                f" Run: chmod 600 {path}",
                subject=str(path),
            )
        return file.read(_LARGEST_FILE)


def write_key_file(path: Path, content: bytes) -> None:
    """Make the key file, whole and on disk, unless there is one. Raises BadInput: it can't be made."""
    folder = path.parent
    temporary = folder / f".{path.name}.{secrets.token_hex(8)}"
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_folder(folder)
        _write_durably(temporary, content)
        try:
            # A link appears at once with all of its content, and never replaces a file: the loser takes the winner's.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        _sync_folder(folder)
        _sync_folder(folder.parent)
    except OSError as error:
        raise BadInput(
            f"The key file {path} can't be made: {error.strerror}. Check the folder, or give a key in"
            " CERTORBIT_KEY_ENCRYPTION_KEY.",
            subject=str(path),
        ) from error


def _check_folder(folder: Path) -> None:
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        raise BadInput(
            f"The folder {folder} can be written by others, who could put a key of theirs there."
            f" Run: chmod 700 {folder}",
            subject=str(folder),
        )


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in the folder durable: a key must not vanish after it has sealed something."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

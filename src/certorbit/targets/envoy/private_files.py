"""Files that are there whole or not at all, for texts with private keys; and errors of files in our words."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certorbit.errors import CredentialsRefused, TargetRefused


def replace_file(path: Path, text: str, *, by_way_of: Path, mode: int = 0o600, group: int = -1) -> None:
    """Put a file in its place by one rename, so that readers see the old text or the new one.

    by_way_of: a directory of the same file system in which the text is written first. group: -1: the service's own.
    """
    passing = by_way_of / f"{path.name}.{secrets.token_hex(4)}.new"
    try:
        with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            if group != -1:
                os.fchown(file.fileno(), -1, group)
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        passing.replace(path)
    finally:
        passing.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def translate_errors(target: str, directory: Path) -> Iterator[None]:
    """Turn what the file system says into errors of ours.

    Raises:
        CredentialsRefused: we may not read or write there.
        TargetRefused: anything else: no such directory, no space, a read-only file system.
    """
    try:
        yield
    except PermissionError as error:
        raise CredentialsRefused(
            f"{target}: the service may not use {error.filename or directory}; it needs read, write and search rights"
            f" in {directory}, and to be a member of `file_group`.",
            subject=target,
        ) from error
    except OSError as error:
        raise TargetRefused(
            f"{target}: {error.filename or directory}: {error.strerror or type(error).__name__}; see to the directory"
            " that Envoy watches.",
            subject=target,
        ) from error

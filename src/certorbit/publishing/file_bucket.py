"""`file://` buckets: a folder for us alone. Files appear whole and durably, and below it no symlink is followed."""

import asyncio
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from certorbit.errors import BadInput, Publishing, Unreachable
from certorbit.ports.bucket import StoredObject

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would block
_LOCK: Final = ".lock"
_TEMPORARY: Final = ".new-"
_ABANDONED: Final = 3600.0  # seconds: no write takes that long, so its writer is dead
# What comes from the place as it is set up, and not from its state at this moment.
_SETUP: Final = frozenset(
    {errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)


class FileBucket:
    """Implements `ports.bucket.Bucket`. Each call blocks in a thread of its own."""

    def __init__(self, *, name: str, url: str, root: str) -> None:
        self._name = name
        self._url = url
        self._root = root

    @property
    def name(self) -> str:
        return self._name

    @property
    def url(self) -> str:
        return self._url

    async def read(self, folder: str, name: str, *, most_bytes: int) -> StoredObject | None:
        return await asyncio.to_thread(self._read, folder, name, most_bytes)

    async def list_sizes(self, folder: str) -> Mapping[str, int]:
        return await asyncio.to_thread(self._list_sizes, folder)

    async def write(self, folder: str, name: str, content: bytes) -> None:
        await asyncio.to_thread(self._write, folder, name, content)

    async def replace(self, folder: str, name: str, content: bytes, *, instead_of: StoredObject | None) -> None:
        await asyncio.to_thread(self._replace, folder, name, content, instead_of)

    async def remove(self, folder: str, names: Collection[str]) -> None:
        await asyncio.to_thread(self._remove, folder, names)

    def _read(self, folder: str, name: str, most_bytes: int) -> StoredObject | None:
        with self._border(), self._open(folder, create=False) as place:
            content = None if place is None else _read_file(place, name, most_bytes)
        if content is None:
            return None
        if len(content) > most_bytes:
            raise BadInput(
                f"The bucket {self._name!r}: {folder}/{name} is larger than {most_bytes} bytes, so it is none of ours;"
                " move it away.",
                subject=self._name,
            )
        return StoredObject(content, sha256(content).hexdigest())

    def _list_sizes(self, folder: str) -> Mapping[str, int]:
        with self._border(), self._open(folder, create=False) as place:
            if place is None:
                return {}
            with os.scandir(place) as found:
                return {
                    item.name: item.stat(follow_symlinks=False).st_size
                    for item in found
                    if item.is_file(follow_symlinks=False)
                }

    def _write(self, folder: str, name: str, content: bytes) -> None:
        with self._border(), self._open(folder, create=True) as place:
            assert place is not None
            _put(place, name, content)

    def _replace(self, folder: str, name: str, content: bytes, instead_of: StoredObject | None) -> None:
        with self._border(), self._open(folder, create=True) as place:
            assert place is not None
            with self._locked(place):
                now = _read_file(place, name, len(instead_of.content) if instead_of else 0)
                if now != (instead_of.content if instead_of else None):
                    raise Publishing(
                        f"Somebody else wrote {folder}/{name} in the bucket {self._name!r} at the same time; try"
                        " again.",
                        subject=self._name,
                    )
                _sync_folders(place)  # before the new name can be seen, what it speaks of is on the disk
                _put(place, name, content)
                os.fsync(place)
                _sweep(place, written=name)

    def _remove(self, folder: str, names: Collection[str]) -> None:
        with self._border(), self._open(folder, create=False) as place:
            if place is None:
                return
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=place)

    @contextmanager
    def _open(self, folder: str, *, create: bool) -> Iterator[int | None]:
        """Give the folder's descriptor; None if it isn't there and is not to be made. The root may be a symlink."""
        if create:
            Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)
        place: int | None = None
        try:
            with suppress(FileNotFoundError):
                place = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
            for part in folder.split("/"):
                if place is None:
                    break
                above, place = place, None
                try:
                    place = _enter(above, part, create=create)
                finally:
                    os.close(above)
            yield place
        finally:
            if place is not None:
                os.close(place)

    @contextmanager
    def _locked(self, place: int) -> Iterator[None]:
        """Hold the folder against other processes. It is held for a moment only, so nobody waits for it."""
        lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Publishing(
                    f"Somebody else writes to the bucket {self._name!r} at this moment; try again.", subject=self._name
                ) from error
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _border(self) -> Iterator[None]:
        """Turn the system's errors into ours."""
        try:
            yield
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
            if error.errno in _SETUP:
                raise BadInput(
                    f"The bucket {self._name!r} can't be used: {reason}. The folder {self._root} must belong to the"
                    " user that Certorbit runs as, with nothing but our own files below it.",
                    subject=self._name,
                ) from error
            raise Unreachable(
                f"The bucket {self._name!r} can't be written: {reason}.", subject=self._name, phase="bucket"
            ) from error


def _enter(above: int, name: str, *, create: bool) -> int | None:
    """Return the descriptor of a folder right below; None if it isn't there and is not to be made."""
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        if not create:
            return None
    with suppress(FileExistsError):
        os.mkdir(name, mode=0o700, dir_fd=above)
        os.fsync(above)
    return os.open(name, _FOLDER, dir_fd=above)


def _read_file(place: int, name: str, most_bytes: int) -> bytes | None:
    """Return up to one byte more than `most_bytes`; None if there is no such file. Raises OSError if it is no file."""
    try:
        descriptor = os.open(name, _OLD_FILE, dir_fd=place)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, "not a regular file", name)
        return file.read(most_bytes + 1)


def _put(place: int, name: str, content: bytes) -> None:
    """Write the file so that its name shows all of it or what was there before, also after a loss of power."""
    temporary = _TEMPORARY + secrets.token_hex(8)
    descriptor = os.open(temporary, _NEW_FILE, 0o600, dir_fd=place)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=place)
        raise


def _sync_folders(place: int) -> None:
    for below in _folders(place):
        os.fsync(below)


def _sweep(place: int, *, written: str) -> None:
    """Delete what writers left that died in the middle. The file just written tells the file system's own time."""
    now = os.stat(written, dir_fd=place, follow_symlinks=False).st_mtime
    _sweep_folder(place, now=now)
    for below in _folders(place):
        _sweep_folder(below, now=now)


def _sweep_folder(folder: int, *, now: float) -> None:
    with os.scandir(folder) as found:
        left = [item for item in found if item.name.startswith(_TEMPORARY)]
    for item in left:
        with suppress(FileNotFoundError):
            if now - item.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                os.unlink(item.name, dir_fd=folder)


def _folders(place: int) -> Iterator[int]:
    """Give the descriptors of the folders right below, one after the other."""
    with os.scandir(place) as found:
        names = [item.name for item in found if item.is_dir(follow_symlinks=False)]
    for name in names:
        descriptor = os.open(name, _FOLDER, dir_fd=place)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

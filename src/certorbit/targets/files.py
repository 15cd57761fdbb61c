"""Files that others read while we write them: whole or not at all, with owner and mode, and never through a symlink.

All of it blocks; call it by `in_thread`.
"""

import asyncio
import errno
import fcntl
import grp
import os
import pwd
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from certorbit.clock import Clock
from certorbit.errors import CredentialsRefused, DeployFailed, TargetRefused

T = TypeVar("T")

LARGEST_FILE: Final = 16 * 1024 * 1024
_TRIAL: Final = ".certorbit-check"
_LOCK: Final = ".lock"
_LOCK_PAUSE: Final = 0.05  # seconds between two looks at a lock that another process holds
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Rights:
    """Who gets the files. owner, group: a name, a number, or "" for ours. mode: of files with keys."""

    owner: str
    group: str
    mode: int

    @property
    def folder_mode(self) -> int:
        """Who may read files may enter their folder."""
        return 0o700 | self.mode | (self.mode & 0o444) >> 2

    def give(self, descriptor: int, mode: int) -> None:
        """Set owner, group and mode of an open file or folder, where they differ."""
        user, group = self.find_ids()
        now = os.fstat(descriptor)
        try:
            if user not in {-1, now.st_uid} or group not in {-1, now.st_gid}:
                os.fchown(descriptor, user, group)
            if stat.S_IMODE(now.st_mode) != mode:
                os.fchmod(descriptor, mode)
        except OSError as error:
            error.strerror = f"setting its owner, group or mode: {error.strerror}"
            raise

    def find_ids(self) -> tuple[int, int]:
        """Return user and group number, -1 for unchanged. Raises TargetRefused for an unknown name."""
        try:
            user = -1 if not self.owner else _number(self.owner, lambda name: pwd.getpwnam(name).pw_uid)
            group = -1 if not self.group else _number(self.group, lambda name: grp.getgrnam(name).gr_gid)
        except KeyError as error:
            raise TargetRefused(f"This machine has no user or group of that name: {error.args[0]}.") from error
        return user, group


def _number(text: str, find: Callable[[str], int]) -> int:
    return int(text) if text.isdigit() else find(text)


class Folder:
    """An open folder; its names are single segments. Close it, or use `open_folder`.

    Every OSError names the whole path of what the system refused, not the segment that the system was given.
    """

    def __init__(self, descriptor: int, rights: Rights, *, path: str) -> None:
        self._descriptor = descriptor
        self._rights = rights
        self._path = path

    def close(self) -> None:
        os.close(self._descriptor)

    def enter(self, name: str, *, create: bool) -> "Folder":
        """Return the folder of that name. Raises FileNotFoundError; OSError if it is a symlink."""
        with self._errors(name):
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=self._descriptor)
                    os.fsync(self._descriptor)
            descriptor = os.open(name, _FOLDER, dir_fd=self._descriptor)
            if create:  # also when it was there: who made it may have died before it got its rights
                try:
                    self._rights.give(descriptor, self._rights.folder_mode)
                except OSError:
                    os.close(descriptor)
                    raise
        return Folder(descriptor, self._rights, path=f"{self._path}/{name}")

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None if there is none. Raises OSError if it is no plain file or huge."""
        with self._errors(name):
            try:
                descriptor = os.open(name, _OLD_FILE, dir_fd=self._descriptor)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(0, "it is not a file")
                content = file.read(LARGEST_FILE + 1)
            if len(content) > LARGEST_FILE:
                raise OSError(0, "it is too large")
        return content

    def write(self, name: str, content: bytes, *, mode: int | None = None) -> None:
        """Put a file there, on the disk when this returns: readers see the old one or the new one, never half.

        Only one writer at a time may use a folder (`locked`).
        """
        new = f".{name}.new"
        self.remove(new)  # of a writer that died
        with self._errors(name):
            with os.fdopen(os.open(new, _NEW_FILE, 0o600, dir_fd=self._descriptor), "wb") as file:
                self._rights.give(file.fileno(), self._rights.mode if mode is None else mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            os.fsync(self._descriptor)

    def link(self, name: str, to: str) -> None:
        """Let a symlink of ours show somewhere else, at one instant."""
        with suppress(OSError):
            if os.readlink(name, dir_fd=self._descriptor) == to:
                return
        new = f".{name}.new"
        self.remove(new)
        with self._errors(name):
            os.symlink(to, new, dir_fd=self._descriptor)
            os.replace(new, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            os.fsync(self._descriptor)

    def remove(self, name: str) -> None:
        """Delete a file or a symlink (not what it shows to). Harmless if there is none."""
        with self._errors(name), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)
            os.fsync(self._descriptor)

    def remove_any(self, name: str) -> None:
        """Delete a file, a symlink, or a folder with all that is in it."""
        if not self.is_folder(name):
            self.remove(name)
            return
        with self._errors(name):
            shutil.rmtree(name, dir_fd=self._descriptor)
            os.fsync(self._descriptor)

    def is_folder(self, name: str) -> bool:
        """Return whether that name is a folder itself, not a symlink to one."""
        with self._errors(name):
            return stat.S_ISDIR(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode)

    def names(self) -> list[str]:
        with self._errors():
            return sorted(os.listdir(self._descriptor))  # noqa: PTH208 - pathlib can't read an open folder

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = f"{self._path}/{name}" if name else self._path
            raise


@contextmanager
def open_descriptor(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def open_folder(root: str, *parts: str, rights: Rights, create: bool = False) -> Iterator[Folder]:
    """Open `root/part/part`. root may be a symlink (the operator's choice), no part may be one.

    create: make what isn't there, the root too, but not its parents.

    Raises:
        FileNotFoundError: it isn't there.
        OSError: a part is a symlink or a file.
    """
    if create:
        with suppress(FileExistsError):
            Path(root).mkdir(0o700)
            with open_descriptor(os.open(root, _FOLDER)) as made:
                rights.give(made, rights.folder_mode)
    folder = Folder(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), rights, path=root)
    try:
        for part in parts:
            inner = folder.enter(part, create=create)
            folder.close()
            folder = inner
        yield folder
    finally:
        folder.close()


def try_writing(root: str, *parts: str, rights: Rights) -> bool:
    """Write a file into a folder, as a change would, and delete it again. Return False if the folder isn't there."""
    with suppress(FileNotFoundError), open_folder(root, *parts, rights=rights):
        # It is there. As a change opens it: one that an operator made gets its rights, which may be refused.
        with open_folder(root, *parts, rights=rights, create=bool(parts)) as folder:
            folder.write(_TRIAL, b"")
            folder.remove(_TRIAL)
        return True
    return False


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread. Cancelled or not, it returns only when the work is over: a lock covers it."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


@asynccontextmanager
async def locked(root: str, *, seconds: float, clock: Clock, target: str) -> AsyncIterator[None]:
    """Keep every other process of ours out of the folder. The lock of a dead process is free.

    Raises:
        TargetRefused: another one has it for longer than `seconds`; later it may work.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open_descriptor(os.open(f"{root}/{_LOCK}", flags, 0o600)) as descriptor:
        waited = 0.0
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if waited >= seconds:
                    raise TargetRefused(
                        f"Target {target}: another process has been changing {root} for {seconds:g} s. Try again.",
                        subject=target,
                    ) from error
            await clock.sleep(_LOCK_PAUSE)
            waited += _LOCK_PAUSE
        yield


def file_trouble(error: OSError, *, target: str, root: str) -> DeployFailed:
    """Return the error of a target for what the system said, with the file or folder that it refused.

    root: is named where the system names none.
    """
    words = f"{error.strerror or error}"
    place = error.filename if isinstance(error.filename, str) else root
    if isinstance(error, PermissionError):
        if error.errno == errno.EACCES and not os.path.lexists(place):
            place = str(Path(place).parent)  # what is to be made there isn't refused itself
        return CredentialsRefused(
            f"Target {target}: we may not read or write {place} ({words}). Give the service's user the right to.",
            subject=target,
        )
    return TargetRefused(f"Target {target}: writing in {place} failed: {words}.", subject=target)

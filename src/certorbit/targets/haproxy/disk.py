"""The files that HAProxy starts from: one PEM file per copy, the default certificate, the crt-list.

    <directory>/.lock                                held while anything is changed
    <directory>/<listener>/<config>.<entry>.pem      a copy; its path is the handle
    <directory>/<listener>/default.pem               first line of the crt-list: the operator's own file at first, a
                                                     symbolic link to a copy from `set_default` on
    <directory>/<listener>/original-default.pem      the operator's own file, kept for the way back

The link makes the default follow its copy: one rename changes both. Blocking; called in threads, under the lock.
"""

import hashlib
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from certorbit.errors import TargetRefused
from certorbit.model.entry import ConfigID, EntryID, is_entry_id
from certorbit.target_settings.haproxy import HAProxyTargetSettings
from certorbit.targets.files import Rights, file_trouble, open_folder, try_writing

DEFAULT: Final = "default.pem"
ORIGINAL_DEFAULT: Final = "original-default.pem"
_TRIAL: Final = ".certorbit-check"
_LONGEST_CONFIG: Final = 100  # characters in a file's name; a longer one is cut and gets its digest
_OPTIONS = re.compile(r"\[([^\]]*)\]")
_COPY = re.compile(r"(?P<config>[A-Za-z0-9._~%-]+)\.(?P<entry>[a-z0-9-]+)\.pem")


class Disk:
    """The folder and the lists of one target. Every method raises TargetRefused or CredentialsRefused."""

    def __init__(self, settings: HAProxyTargetSettings) -> None:
        self._target = settings.name
        self._directory = settings.directory
        self._rights = Rights(owner=settings.owner, group=settings.group, mode=int(settings.mode, 8))

    @property
    def directory(self) -> str:
        return self._directory

    def path_of(self, name: str, *, config: ConfigID, entry: EntryID) -> str:
        """Return the handle of an entry's copy at the listener of this name; the same for ever."""
        return f"{self._directory}/{name}/{shown_config(config)}.{entry}.pem"

    def default_of(self, name: str) -> str:
        return f"{self._directory}/{name}/{DEFAULT}"

    def is_ours(self, path: str) -> bool:
        """Return whether it is the path of a copy or of a managed default."""
        return self.is_handle(path) or (path.endswith(f"/{DEFAULT}") and self.is_inside(path))

    def is_handle(self, path: str) -> bool:
        return self.is_inside(path) and is_copy(path.rpartition("/")[2])

    def copies(self, name: str) -> list[str]:
        """Return the handles of the copies at a listener, by name."""
        with self._errors():
            try:
                with open_folder(self._directory, name, rights=self._rights) as folder:
                    return [f"{self._directory}/{name}/{found}" for found in folder.names() if is_copy(found)]
            except FileNotFoundError:
                return []

    def read(self, path: str) -> str | None:
        """Return the text of a file of ours, for a managed default that of its copy; None if there is none."""
        name, file = path.removeprefix(f"{self._directory}/").split("/")
        content: bytes | None
        with self._errors():
            try:
                if file == DEFAULT:  # a link of ours, or of the operator
                    content = Path(path).read_bytes()
                else:
                    with open_folder(self._directory, name, rights=self._rights) as folder:
                        content = folder.read(file)
            except FileNotFoundError:
                return None
        return None if content is None else content.decode("utf-8", "surrogateescape")

    def write(self, path: str, text: str) -> None:
        """Put the whole file in place at once, with the settings' mode and owner. Makes the listener's folder."""
        name, file = path.removeprefix(f"{self._directory}/").split("/")
        with self._errors():
            if not Path(self._directory).is_dir():  # not ours to make: HAProxy must be able to read it
                raise FileNotFoundError(0, "there is no such folder")
            with open_folder(self._directory, name, rights=self._rights, create=True) as folder:
                folder.write(file, text.encode("utf-8", "surrogateescape"))

    def delete(self, path: str) -> None:
        """Delete a file of ours. Harmless if it is gone."""
        name, file = path.removeprefix(f"{self._directory}/").split("/")
        with self._errors():
            try:
                with open_folder(self._directory, name, rights=self._rights) as folder:
                    folder.remove(file)
            except FileNotFoundError:
                return

    def default_handle(self, name: str) -> str:
        """Return the handle of the copy that the listener's default file is a link to, "" if it is none."""
        place = Path(self.default_of(name))
        with self._errors():
            if not place.is_symlink():
                return ""
            linked = str(place.readlink())
        return str(place.parent / linked) if is_copy(linked) else ""

    def point_default_at(self, handle: str, *, name: str) -> None:
        """Make the listener's default file a link to the copy. The operator's own file is kept."""
        default = self.default_of(name)
        if not self.default_handle(name) and (own := self.read(default)) is not None:
            self.write(f"{self._directory}/{name}/{ORIGINAL_DEFAULT}", own)
        with self._errors(), open_folder(self._directory, name, rights=self._rights) as folder:
            folder.link(DEFAULT, handle.rpartition("/")[2])

    def read_original_default(self, name: str) -> str | None:
        """Return the operator's own default, from before the first `set_default`; None if there was none."""
        own = ORIGINAL_DEFAULT if self.default_handle(name) else DEFAULT
        return self.read(f"{self._directory}/{name}/{own}")

    def listed(self, crt_list: str) -> list[str]:
        """Return the paths that the crt-list's lines name, as they stand there. Raises TargetRefused: no file."""
        return [path for line in self._lines(crt_list) if (path := _path_in(line))]

    def listed_options(self, crt_list: str) -> dict[str, str]:
        """Return what stands in brackets behind each path of the crt-list, without them; "" where nothing does."""
        found = {}
        for line in self._lines(crt_list):
            if path := _path_in(line):
                options = _OPTIONS.match(line.strip().removeprefix(path).lstrip())
                found[path] = options[1] if options else ""
        return found

    def rewrite_line(self, crt_list: str, path: str, *, options: str) -> None:
        """Give the lines for the path these options, in place; harmless if there is none."""
        lines = self._lines(crt_list)
        wanted = _line_of(path, options)
        changed = [wanted if _path_in(line) == path else line for line in lines]
        if changed != lines:
            self._write_beside(crt_list, "".join(changed))

    def beside(self, handle: str) -> list[str]:
        """Return the paths of all other files whose names begin like the copy's."""
        name, file = handle.removeprefix(f"{self._directory}/").split("/")
        with self._errors():
            try:
                with open_folder(self._directory, name, rights=self._rights) as folder:
                    begin = file.removesuffix("pem")
                    return [
                        f"{self._directory}/{name}/{one}"
                        for one in folder.names()
                        if one.startswith(begin) and one != file
                    ]
            except FileNotFoundError:
                return []

    def add_line(self, crt_list: str, path: str, *, options: str = "") -> None:
        """Append a line for the path. Harmless if there is one."""
        lines = self._lines(crt_list)
        if any(_path_in(line) == path for line in lines):
            return
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        self._write_beside(crt_list, "".join([*lines, _line_of(path, options)]))

    def drop_lines(self, crt_list: str, path: str) -> None:
        """Delete all lines for the path. Everybody else's lines and comments stay as they are."""
        lines = self._lines(crt_list)
        kept = [line for line in lines if _path_in(line) != path]
        if len(kept) < len(lines):
            self._write_beside(crt_list, "".join(kept))

    def try_writing(self) -> None:
        """Write a file into the directory, as copies are written, and delete it again."""
        with self._errors(), open_folder(self._directory, rights=self._rights) as folder:
            folder.write(_TRIAL, b"")
            folder.remove(_TRIAL)

    def try_writing_beside(self, name: str) -> bool:
        """Write a file beside the copies of a listener, and delete it again. Return False if it has no folder yet."""
        with self._errors():
            return try_writing(self._directory, name, rights=self._rights)

    def try_writing_list(self, crt_list: str) -> None:
        """Write a file beside the list, as a new list is, and delete it again."""
        self._write_beside(crt_list, "", name=_TRIAL)
        with self._errors(crt_list), open_folder(_folder_of(crt_list), rights=self._rights) as folder:
            folder.remove(_TRIAL)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate OSError of whoever works in the directory."""
        with self._errors():
            yield

    def _lines(self, crt_list: str) -> list[str]:
        with self._errors(crt_list):
            try:
                text = Path(crt_list).read_bytes().decode("utf-8", "surrogateescape")
            except FileNotFoundError as error:
                raise TargetRefused(
                    f"Target {self._target}: there is no crt-list {crt_list}; HAProxy could not start again.",
                    subject=crt_list,
                ) from error
        return [line for line in re.split(r"(?<=\n)", text) if line]

    def _write_beside(self, crt_list: str, text: str, *, name: str = "") -> None:
        """Write the list anew (or another file in its folder) with the list's own mode and owner."""
        with self._errors(crt_list):
            state = Path(crt_list).stat()
            mode = stat.S_IMODE(state.st_mode)
            rights = Rights(owner=str(state.st_uid), group=str(state.st_gid), mode=mode)
            with open_folder(_folder_of(crt_list), rights=rights) as folder:
                folder.write(name or Path(crt_list).resolve().name, text.encode("utf-8", "surrogateescape"))

    def is_inside(self, path: str) -> bool:
        """Return whether it is the path of a file in a listener's folder."""
        folder, _, rest = path.removeprefix(f"{self._directory}/").partition("/")
        return path.startswith(f"{self._directory}/") and folder not in {"", ".", ".."} and "/" not in rest

    @contextmanager
    def _errors(self, place: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise file_trouble(error, target=self._target, root=place or self._directory) from error


def shown_config(config: ConfigID) -> str:
    """Return the configuration's name as file names and links have it."""
    name = quote(config, safe="").replace("~", "%7E")
    if len(name) <= _LONGEST_CONFIG:
        return name
    return f"{name[: _LONGEST_CONFIG - 17]}~{hashlib.sha256(config.encode()).hexdigest()[:16]}"


def is_copy(name: str) -> bool:
    """Return whether a file's name is that of a copy."""
    match = _COPY.fullmatch(name)
    return match is not None and is_entry_id(match["entry"])


def _path_in(line: str) -> str:
    words = line.split(maxsplit=1)
    return "" if not words or words[0].startswith("#") else words[0]


def _line_of(path: str, options: str) -> str:
    return f"{path} [{options}]\n" if options else f"{path}\n"


def _folder_of(crt_list: str) -> str:
    """Return the folder that the list really is in: a list that is a link stays one."""
    return str(Path(crt_list).resolve().parent)

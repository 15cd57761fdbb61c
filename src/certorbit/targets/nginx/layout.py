"""Where nginx's files stand.

`<directory>/<listener>-<port>.conf` (`.server` for one certificate): the include file, and beside it `….previous` while
a change is under way. `<directory>/<listener>-<port>/<configuration>/<entry>/<fingerprint>.pem`: certificate, issuers
and key in one file. A version's file never changes, so certificate and key that a worker reads belong together, and
workers of before a reload still find theirs.
"""

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from certorbit.model.balancer import Bundle
from certorbit.ports.target import Finding
from certorbit.target_settings.nginx import NginxListener, NginxTargetSettings
from certorbit.targets.file_layout import Place, leaf_fingerprint, sweep_copies
from certorbit.targets.files import Rights, open_folder
from certorbit.targets.holdings import Holdings, Leaf
from certorbit.targets.nginx.checks import check_nginx
from certorbit.targets.nginx.include import (
    default_line,
    name_lines,
    nginx_part,
    parse_include,
    render_include,
)

_INCLUDE_MODE = 0o644  # names and paths, no keys: whoever runs `nginx -t` may read it


class NginxLayout:
    """`file_layout.Layout` for nginx."""

    def __init__(self, settings: NginxTargetSettings) -> None:
        self._settings = settings
        self._tables: dict[str, NginxListener] = {f"{table.name}-{table.port}": table for table in settings.listeners}
        self._rights = Rights(settings.owner, settings.group, int(settings.mode, 8))

    @property
    def root(self) -> str:
        return self._settings.directory

    @property
    def rights(self) -> Rights:
        return self._rights

    def handle_of(self, place: Place, path: str) -> str:
        return f"{self.root}/{place.folder}/{path}"

    def read_index(self, place: Place) -> str:
        return self._read(self._include_of(place)) or ""

    def read_previous(self, place: Place) -> str | None:
        return self._read(self._include_of(place) + ".previous")

    def note_previous(self, place: Place, text: str) -> None:
        with open_folder(self.root, rights=self._rights) as folder:
            folder.write(self._include_of(place) + ".previous", text.encode(), mode=_INCLUDE_MODE)

    def forget_previous(self, place: Place) -> None:
        with open_folder(self.root, rights=self._rights) as folder:
            folder.remove(self._include_of(place) + ".previous")

    def parse(self, text: str) -> Holdings:
        return parse_include(text)

    def render(self, place: Place, holdings: Holdings) -> str:
        return render_include(
            self._tables[place.folder],
            holdings,
            file_of=lambda path: self._file_of(place, path, holdings.copies[path]),
            nowhere=f"{self.root}/no-certificate-for-this-name.pem",
        )

    def served_part(self, text: str) -> str:
        return nginx_part(text)

    def see(self, place: Place, text: str) -> Holdings:
        try:
            holdings = parse_include(text)
        except ValueError:  # there is none, or it is somebody else's
            return Holdings()
        lines = set(text.splitlines())

        def file_of(path: str) -> str:
            return self._file_of(place, path, holdings.copies[path])

        def is_there(path: str) -> bool:
            wanted = set(name_lines(holdings, path, file_of=file_of)) if self._tables[place.folder].sni else set()
            return Path(file_of(path)).is_file() and wanted <= lines

        attached = tuple(path for path in holdings.attached if is_there(path))
        default = holdings.default if holdings.default in attached else ""
        if default:
            file = file_of(default)
            line = default_line(file) if self._tables[place.folder].sni else f'ssl_certificate "{file}";'
            if line not in lines:
                default, attached = "", tuple(path for path in attached if path != default)
        return replace(holdings, attached=attached, default=default)

    def has_copy(self, place: Place, path: str, bundle: Bundle) -> bool:
        with suppress(FileNotFoundError), open_folder(self.root, *_parts(place, path), rights=self._rights) as folder:
            return folder.read(f"{bundle.facts.fingerprint}.pem") == _combine(bundle)
        return False

    def write_copy(self, place: Place, path: str, bundle: Bundle) -> None:
        with open_folder(self.root, *_parts(place, path), rights=self._rights, create=True) as folder:
            folder.write(f"{bundle.facts.fingerprint}.pem", _combine(bundle))

    def arrange(self, place: Place, holdings: Holdings, text: str) -> None:  # noqa: ARG002 - the text has them
        with open_folder(self.root, rights=self._rights) as folder:
            if text:
                folder.write(self._include_of(place), text.encode(), mode=_INCLUDE_MODE)
            else:
                folder.remove(self._include_of(place))

    def sweep(self, place: Place, keep: Mapping[str, Container[str] | None]) -> None:
        with suppress(FileNotFoundError), open_folder(self.root, place.folder, rights=self._rights) as store:
            sweep_copies(store, keep)

    def fingerprint_of(self, place: Place, path: str, leaf: Leaf) -> str:
        with suppress(FileNotFoundError), open_folder(self.root, *_parts(place, path), rights=self._rights) as folder:
            return leaf_fingerprint(folder.read(f"{leaf.fingerprint}.pem"))
        return ""

    async def check(self, places: Sequence[Place]) -> Sequence[Finding]:
        includes = {f"{self.root}/{self._include_of(place)}": self._tables[place.folder] for place in places}
        return await check_nginx(self._settings, includes=includes, rights=self._rights)

    def _include_of(self, place: Place) -> str:
        return f"{place.folder}.conf" if self._tables[place.folder].sni else f"{place.folder}.server"

    def _file_of(self, place: Place, path: str, leaf: Leaf) -> str:
        return f"{self.handle_of(place, path)}/{leaf.fingerprint}.pem"

    def _read(self, name: str) -> str | None:
        with suppress(FileNotFoundError), open_folder(self.root, rights=self._rights) as folder:
            content = folder.read(name)
            return None if content is None else content.decode("utf-8", "replace")
        return None


def _parts(place: Place, path: str) -> tuple[str, str, str]:
    configuration, entry = path.split("/")
    return place.folder, configuration, entry


def _combine(bundle: Bundle) -> bytes:
    return (bundle.chain_pem + bundle.key.reveal()).encode()

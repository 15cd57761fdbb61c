"""Where nginx's files stand.

`<directory>/<listener>-<port>.conf` (`.server` for one certificate): the include file, and beside it `….previous` while
a change is under way. `<directory>/<listener>-<port>/<configuration>/<entry>/<fingerprint>.pem`: certificate, issuers
and key in one file. A version's file never changes, so certificate and key that a worker reads belong together, and
workers of before a reload still find theirs.

`<directory>/<listener>-<port>.clients`: what `server` blocks check clients by, written before the include file, whose
record says what it has to be. `<directory>/<listener>-<port>/<digest>.ca` and `.crl`: a policy's CAs and its lists.
"""

from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from certorbit.model.balancer import Bundle
from certorbit.model.client_policy import ClientPolicy
from certorbit.ports.target import Finding
from certorbit.target_settings.nginx import NginxListener, NginxTargetSettings
from certorbit.targets.file_layout import Place, leaf_fingerprint, sweep_copies
from certorbit.targets.files import Rights, in_thread, open_folder
from certorbit.targets.holdings import Holdings, Leaf
from certorbit.targets.nginx.checks import check_nginx
from certorbit.targets.nginx.clients import Parts, contents_of, file_names
from certorbit.targets.nginx.include import (
    default_line,
    name_lines,
    nginx_part,
    parse_clients,
    parse_include,
    render_clients,
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

    def parse(self, place: Place, text: str) -> Holdings:
        if text:
            return parse_include(text)
        # Whoever deletes the record must not open the listener with it.
        clients = self._read(_clients_of(place))
        check = parse_clients(clients, home=f"{self.root}/{place.folder}") if clients is not None else None
        return Holdings(clients=check)

    def render(self, place: Place, holdings: Holdings) -> str:
        return render_include(
            self._tables[place.folder],
            holdings,
            file_of=lambda path: self._file_of(place, path, holdings.copies[path]),
            nowhere=f"{self.root}/no-certificate-for-this-name.pem",
            clients=f"{self.root}/{_clients_of(place)}",
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

    def has_clients(self, place: Place, holdings: Holdings, policy: ClientPolicy | None) -> bool:
        """Return whether the files that clients are checked by are there, as the holdings and the policy say."""
        contents = contents_of(policy) if policy is not None else {}
        if contents:
            try:
                with open_folder(self.root, place.folder, rights=self._rights) as folder:
                    if any(folder.read(name) != content for name, content in contents.items()):
                        return False
            except FileNotFoundError:
                return False
        there = self._read(_clients_of(place))
        if there is None:
            return not self._has_clients_file(place, holdings)
        return there == self._render_clients(place, holdings)

    def write_policy(self, place: Place, policy: ClientPolicy) -> None:
        with open_folder(self.root, place.folder, rights=self._rights, create=True) as folder:
            for name, content in contents_of(policy).items():
                folder.write(name, content, mode=_INCLUDE_MODE)

    def is_laid_out(self, place: Place, holdings: Holdings) -> bool:
        return not self._has_clients_file(place, holdings) or self._read(_clients_of(place)) is not None

    def arrange(self, place: Place, holdings: Holdings, text: str) -> None:
        with open_folder(self.root, rights=self._rights) as folder:
            there, wanted = folder.read(_clients_of(place)), self._render_clients(place, holdings).encode()
            # Never deleted: `server` blocks may include it, and nginx doesn't start without it then.
            if there != wanted and (there is not None or self._has_clients_file(place, holdings)):
                folder.write(_clients_of(place), wanted, mode=_INCLUDE_MODE)
            if text:
                folder.write(self._include_of(place), text.encode(), mode=_INCLUDE_MODE)
            else:
                folder.remove(self._include_of(place))

    def sweep(self, place: Place, holdings: Holdings, keep: Mapping[str, Container[str] | None]) -> None:
        with suppress(FileNotFoundError), open_folder(self.root, place.folder, rights=self._rights) as store:
            sweep_copies(store, keep)
            for name in store.names():
                if not store.is_folder(name) and name not in file_names(holdings.clients):
                    store.remove(name)

    def fingerprint_of(self, place: Place, path: str, leaf: Leaf) -> str:
        with suppress(FileNotFoundError), open_folder(self.root, *_parts(place, path), rights=self._rights) as folder:
            return leaf_fingerprint(folder.read(f"{leaf.fingerprint}.pem"))
        return ""

    async def check(self, places: Sequence[Place]) -> Sequence[Finding]:
        includes = {f"{self.root}/{self._include_of(place)}": self._tables[place.folder] for place in places}
        checked = {
            str(place.key): self.parts_of(place)
            for place in places
            if await in_thread(partial(self._is_checked, place))
        }
        return await check_nginx(self._settings, includes=includes, checked=checked, rights=self._rights)

    def parts_of(self, place: Place) -> Parts:
        table = self._tables[place.folder]
        return Parts(
            variable=table.variable if table.sni else "",
            index=f"{self.root}/{self._include_of(place)}",
            clients=f"{self.root}/{_clients_of(place)}",
        )

    def takes_policies(self, place: Place) -> bool:
        """Return whether the settings say that the `server` blocks include what clients are checked by."""
        table = self._tables[place.folder]
        return table.verifies_clients or not table.sni

    def _is_checked(self, place: Place) -> bool:
        """Return whether all `server` blocks must be seen to include what clients are checked by."""
        table = self._tables[place.folder]
        return (table.sni and table.verifies_clients) or self.see(place, self.read_index(place)).clients is not None

    def _has_clients_file(self, place: Place, holdings: Holdings) -> bool:
        table = self._tables[place.folder]
        return (table.sni and table.verifies_clients) or holdings.clients is not None

    def _render_clients(self, place: Place, holdings: Holdings) -> str:
        return render_clients(holdings.clients, home=f"{self.root}/{place.folder}")

    def _include_of(self, place: Place) -> str:
        return f"{place.folder}.conf" if self._tables[place.folder].sni else f"{place.folder}.server"

    def _file_of(self, place: Place, path: str, leaf: Leaf) -> str:
        return f"{self.handle_of(place, path)}/{leaf.fingerprint}.pem"

    def _read(self, name: str) -> str | None:
        with suppress(FileNotFoundError), open_folder(self.root, rights=self._rights) as folder:
            content = folder.read(name)
            return None if content is None else content.decode("utf-8", "replace")
        return None


def _clients_of(place: Place) -> str:
    return f"{place.folder}.clients"


def _parts(place: Place, path: str) -> tuple[str, str, str]:
    configuration, entry = path.split("/")
    return place.folder, configuration, entry


def _combine(bundle: Bundle) -> bytes:
    return (bundle.chain_pem + bundle.key.reveal()).encode()

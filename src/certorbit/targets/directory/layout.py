"""Where the files stand.

`<directory>/<listener>-<port>/`:

- `manifest.json`: what is there, written last; `manifest.json.previous` while a change is under way;
- `copies/<configuration>/<entry>/<fingerprint>/`: a version's files, which never change;
- `live/<configuration>/<entry>`: a symlink to the version that is attached, so that all files change at one instant;
- `default`: a symlink to the default one of them.
"""

import json
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from certorbit.model.balancer import Bundle
from certorbit.ports.target import Finding, Grade
from certorbit.target_settings.directory import DirectoryTargetSettings
from certorbit.targets.commands import find_program
from certorbit.targets.file_layout import Place, leaf_fingerprint, split_chain, sweep_copies
from certorbit.targets.files import Folder, Rights, open_folder
from certorbit.targets.holdings import Holdings, Leaf, read_holdings, write_holdings

_MANIFEST: Final = "manifest.json"
_PREVIOUS: Final = "manifest.json.previous"
_PUBLIC: Final = 0o444  # everybody who may enter the folder may read certificates


class DirectoryLayout:
    """`file_layout.Layout` for directories."""

    def __init__(self, settings: DirectoryTargetSettings) -> None:
        self._settings = settings
        self._rights = Rights(settings.owner, settings.group, int(settings.mode, 8))

    @property
    def root(self) -> str:
        return self._settings.directory

    @property
    def rights(self) -> Rights:
        return self._rights

    def handle_of(self, place: Place, path: str) -> str:
        return f"{self.root}/{place.folder}/live/{path}"

    def read_index(self, place: Place) -> str:
        return self._read(place, _MANIFEST) or ""

    def read_previous(self, place: Place) -> str | None:
        return self._read(place, _PREVIOUS)

    def note_previous(self, place: Place, text: str) -> None:
        with open_folder(self.root, place.folder, rights=self._rights, create=True) as folder:
            folder.write(_PREVIOUS, text.encode())

    def forget_previous(self, place: Place) -> None:
        with open_folder(self.root, place.folder, rights=self._rights) as folder:
            folder.remove(_PREVIOUS)

    def parse(self, place: Place, text: str) -> Holdings:  # noqa: ARG002 - the text says it all
        return read_holdings(text) if text else Holdings()

    def render(self, place: Place, holdings: Holdings) -> str:
        files = self._settings.files.model_dump()
        manifest = {
            "listener": place.key.listener,
            "port": place.key.port,
            "files": {what: name for what, name in files.items() if name},
            **write_holdings(holdings),
        }
        return json.dumps(manifest, indent=1) + "\n"

    def served_part(self, text: str) -> str:
        """Return it without the copies that aren't attached."""
        manifest: dict[str, Any] = json.loads(text) if text else write_holdings(Holdings())
        held = {path: manifest["copies"][path] for path in manifest["attached"]}
        return json.dumps([manifest["default"], manifest["attached"], held, held and manifest.get("files")])

    def see(self, place: Place, text: str) -> Holdings:
        try:
            holdings = read_holdings(text)
        except ValueError:  # there is none, or it is somebody else's
            return Holdings()
        home = f"{self.root}/{place.folder}"
        attached = tuple(
            path
            for path in holdings.attached
            if _shows(f"{home}/live/{path}", _link_of(path, holdings.copies[path]))
            and self.fingerprint_of(place, path, holdings.copies[path]) == holdings.copies[path].fingerprint
        )
        default = holdings.default
        if default not in attached or not _shows(f"{home}/default", f"live/{default}"):
            attached, default = tuple(path for path in attached if path != default), ""
        return replace(holdings, attached=attached, default=default)

    def has_copy(self, place: Place, path: str, bundle: Bundle) -> bool:
        parts = (place.folder, "copies", *path.split("/"), bundle.facts.fingerprint)
        with suppress(FileNotFoundError), open_folder(self.root, *parts, rights=self._rights) as folder:
            return all(folder.read(name) == content for name, content, _ in self._contents(bundle))
        return False

    def write_copy(self, place: Place, path: str, bundle: Bundle) -> None:
        parts = (place.folder, "copies", *path.split("/"), bundle.facts.fingerprint)
        with open_folder(self.root, *parts, rights=self._rights, create=True) as folder:
            for name, content, mode in self._contents(bundle):
                folder.write(name, content, mode=mode)

    def arrange(self, place: Place, holdings: Holdings, text: str) -> None:
        with open_folder(self.root, place.folder, rights=self._rights, create=True) as home:
            for path in holdings.attached:
                configuration, entry = path.split("/")
                with open_folder(
                    self.root, place.folder, "live", configuration, rights=self._rights, create=True
                ) as folder:
                    folder.link(entry, _link_of(path, holdings.copies[path]))
            if holdings.default:
                home.link("default", f"live/{holdings.default}")
            else:
                home.remove("default")
            self._remove_others(place, home, holdings)
            if text:
                home.write(_MANIFEST, text.encode())
            else:
                home.remove(_MANIFEST)

    def is_laid_out(self, place: Place, holdings: Holdings) -> bool:  # noqa: ARG002 - nothing includes our files
        return True

    def sweep(self, place: Place, holdings: Holdings, keep: Mapping[str, Container[str] | None]) -> None:  # noqa: ARG002 - they have copies only
        with suppress(FileNotFoundError), open_folder(self.root, place.folder, "copies", rights=self._rights) as store:
            sweep_copies(store, keep)

    def fingerprint_of(self, place: Place, path: str, leaf: Leaf) -> str:
        files = self._settings.files
        parts = (place.folder, "copies", *path.split("/"), leaf.fingerprint)
        with suppress(FileNotFoundError), open_folder(self.root, *parts, rights=self._rights) as folder:
            return leaf_fingerprint(folder.read(files.fullchain or files.combined or files.certificate))
        return ""

    async def check(self, places: Sequence[Place]) -> Sequence[Finding]:  # noqa: ARG002 - the command is one for all
        command = self._settings.command
        if not command:
            return []
        if find_program(command[0]):
            return [Finding("command", Grade.OK, f"The command {command[0]!r} is there. It was not run.")]
        return [Finding("command", Grade.FAILED, f"The command {command[0]!r} is not there, or we may not run it.")]

    def _contents(self, bundle: Bundle) -> list[tuple[str, bytes, int]]:
        """Return name, content and mode of each file; the key first, so that a certificate never waits for its key."""
        files, key = self._settings.files, bundle.key.reveal()
        leaf, issuers = split_chain(bundle)
        mode = self._rights.mode
        contents = [
            (files.key, key, mode),
            (files.combined, bundle.chain_pem + key, mode),
            (files.chain, issuers, mode | _PUBLIC),
            (files.certificate, leaf, mode | _PUBLIC),
            (files.fullchain, bundle.chain_pem, mode | _PUBLIC),
        ]
        return [(name, content.encode(), mode) for name, content, mode in contents if name]

    def _remove_others(self, place: Place, home: Folder, holdings: Holdings) -> None:
        """Delete the links of what isn't attached."""
        if "live" not in home.names():
            return
        with open_folder(self.root, place.folder, "live", rights=self._rights) as live:
            for configuration in live.names():
                with open_folder(self.root, place.folder, "live", configuration, rights=self._rights) as folder:
                    for entry in folder.names():
                        if f"{configuration}/{entry}" not in holdings.attached:
                            folder.remove(entry)

    def _read(self, place: Place, name: str) -> str | None:
        with suppress(FileNotFoundError), open_folder(self.root, place.folder, rights=self._rights) as folder:
            content = folder.read(name)
            return None if content is None else content.decode("utf-8", "replace")
        return None


def _link_of(path: str, leaf: Leaf) -> str:
    return f"../../copies/{path}/{leaf.fingerprint}"


def _shows(link: str, to: str) -> bool:
    try:
        return Path(link).readlink() == Path(to)
    except OSError:
        return False

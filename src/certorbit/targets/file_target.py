"""The target port over files: nginx and directory are this with a layout and an activation of their own.

A change goes: note the index as it is (`note_previous`), write the files, the index last, test, load, forget the note.
Whoever finds a note knows that a change was cut short, puts the noted state in front of what he is to do, and loads in
any case: what the other side has loaded by then is unknown.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeVar

import structlog

from certorbit.clock import Clock
from certorbit.errors import DeployFailed, TargetGone, TargetRefused
from certorbit.model.balancer import Bundle, Copy, Endpoint, Listener, ListenerKey
from certorbit.ports.target import Finding, Grade
from certorbit.target_settings.files import FileTargetTable
from certorbit.target_settings.table import ListenerTable, split_address
from certorbit.targets.file_layout import NOTHING, Activation, Layout, Material, Place, copy_material
from certorbit.targets.files import file_trouble, in_thread, locked, open_folder, try_writing
from certorbit.targets.holdings import Holdings, Leaf, is_path, usable_names

log = structlog.get_logger(__name__)

PROVIDER: Final = "link11"
_LOCK_ROUNDS: Final = 4  # how many calls of other processes a call waits for, at their longest
Edit = Callable[[Holdings], Holdings]
T = TypeVar("T")


class FileTarget:
    """A target whose listeners stand in the settings and whose store is a folder."""

    def __init__(
        self,
        settings: FileTargetTable,
        rooms: Sequence[tuple[ListenerTable, int]],
        *,
        kind: str,
        layout: Layout,
        activation: Activation,
        clock: Clock,
    ) -> None:
        """rooms: the listeners' tables, each with how many certificates it takes beside its default.

        kind: the API's `load_balancer_type`.
        """
        self._kind = kind
        self._settings = settings
        self._layout = layout
        self._activation = activation
        self._clock = clock
        self._lock = asyncio.Lock()
        self._tables: dict[ListenerKey, ListenerTable] = {}
        self._places: dict[ListenerKey, Place] = {}
        for table, room in rooms:
            key = ListenerKey(settings.name, settings.region, settings.shown_name, table.name, table.port)
            self._tables[key] = table
            self._places[key] = Place(key, f"{table.name}-{table.port}", room)

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def provider(self) -> str:
        return PROVIDER

    def scope_of(self, listener: ListenerKey) -> str:
        return f"{listener.listener}-{listener.port}"

    async def discover(self) -> Sequence[Listener]:
        return [await self.look(key) for key in sorted(self._places)]

    async def look(self, listener: ListenerKey) -> Listener:
        place = self._find_place(listener)
        held = await self._in_thread(lambda: self._layout.see(place, self._layout.read_index(place)))
        return self._show(place, held)

    async def install(self, bundle: Bundle, *, scope: str, present: Copy | None) -> Copy:  # noqa: ARG002 - the port's
        place = next((place for place in self._places.values() if place.folder == scope), None)
        path = f"{bundle.config}/{bundle.entry_id}"
        if place is None:
            raise TargetGone(f"Target {self.name} has no listener {scope!r} (any more).", subject=self.name)
        if not is_path(path):
            raise TargetRefused(
                f"Target {self.name} can't keep {path!r}: a configuration's name may have letters, digits, '-', '_' and"
                " '.' only there.",
                subject=self.name,
            )
        leaf = Leaf(bundle.facts.fingerprint, usable_names(bundle.facts.san), bundle.version)
        material = copy_material(self._layout, place, path, bundle)
        await self._change(place, lambda held: held.install(path, leaf), path=path, material=material)
        log.info("target.installed", target=self.name, entry=bundle.entry_id, version=bundle.version, scope=scope)
        handle = self._layout.handle_of(place, path)
        return Copy(handle=handle, link=handle)

    async def attach(self, listener: ListenerKey, copy: Copy, *, instead_of: str) -> None:
        place = self._find_place(listener)
        edit = partial(
            Holdings.attach,
            path=self._path_of(place, copy.handle),
            instead_of=self._path_of(place, instead_of),
            room=place.room,
            listener=str(listener),
        )
        await self._change(place, edit)

    async def set_default(self, listener: ListenerKey, copy: Copy) -> None:
        place = self._find_place(listener)
        path = self._path_of(place, copy.handle)
        await self._change(place, lambda held: held.set_default(path, listener=str(listener)))

    async def detach(self, listener: ListenerKey, handle: str) -> None:
        place = self._find_place(listener)
        path = self._path_of(place, handle)
        await self._change(place, lambda held: held.detach(path, listener=str(listener)))

    async def remove(self, handle: str) -> None:
        for place in self._places.values():
            if path := self._path_of(place, handle):
                await self._change(place, partial(Holdings.remove, path=path, listener=str(place.key)), path=path)
                return

    async def list_copies(self) -> Mapping[str, str]:
        return await self._in_thread(self._list)

    async def check(self) -> Sequence[Finding]:
        try:
            async with self._hold():
                await self._in_thread(self._try_writing)
        except DeployFailed as error:
            return [Finding("write", Grade.FAILED, error.message)]
        written = Finding("write", Grade.OK, f"The service may write in {self._layout.root}.")
        return [written, *await self._layout.check(list(self._places.values()))]

    async def close(self) -> None:
        """Nothing is kept open."""

    def _find_place(self, listener: ListenerKey) -> Place:
        if listener not in self._places:
            raise TargetGone(f"The settings of target {self.name} have no listener {listener}.", subject=str(listener))
        return self._places[listener]

    def _path_of(self, place: Place, handle: str) -> str:
        """Return the path of a copy of this place, "" for any other handle."""
        path = "/".join(handle.rsplit("/", 2)[-2:])
        return path if is_path(path) and self._layout.handle_of(place, path) == handle else ""

    def _show(self, place: Place, held: Holdings) -> Listener:
        table = self._tables[place.key]
        addresses = table.addresses or (self._settings.host,)
        return Listener(
            key=place.key,
            provider=PROVIDER,
            kind=self._kind,
            dns_name=self._settings.host,
            max_certificates=place.room,
            default=self._layout.handle_of(place, held.default) if held.default else "",
            certificates=tuple(self._layout.handle_of(place, path) for path in held.others),
            endpoints=tuple(Endpoint(*split_address(address, table.port)) for address in addresses),
        )

    def _list(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for place in self._places.values():
            for path, leaf in self._parse(place, self._layout.read_index(place)).copies.items():
                found[self._layout.handle_of(place, path)] = self._layout.fingerprint_of(place, path, leaf)
        return found

    def _try_writing(self) -> None:
        """Write and delete a file, and write what isn't there yet and has to be, so that it can be included."""
        try_writing(self._layout.root, rights=self._layout.rights)
        for place in self._places.values():
            try_writing(self._layout.root, place.folder, rights=self._layout.rights)
            if self._layout.read_previous(place) is not None:
                continue  # the next change repairs it
            text = self._layout.read_index(place)
            held = self._parse(place, text)
            if not text or not self._layout.is_laid_out(place, held):
                self._layout.arrange(place, held, text or self._layout.render(place, held))

    def _parse(self, place: Place, text: str) -> Holdings:
        try:
            return self._layout.parse(place, text)
        except ValueError as error:
            raise TargetRefused(
                f"The file in {self._layout.root} that says what {place.key} holds was changed by somebody else:"
                f" {error}. Delete it, or put the old one back.",
                subject=str(place.key),
            ) from error

    async def _change(self, place: Place, edit: Edit, *, path: str = "", material: Material = NOTHING) -> None:
        """Change what a listener and its store hold, all or nothing.

        path: the copy that is written or removed.
        """
        async with self._hold():
            text = await self._in_thread(lambda: self._layout.read_index(place))
            noted = await self._in_thread(lambda: self._layout.read_previous(place))
            before_text = text if noted is None else noted
            before = self._parse(place, before_text)
            after = edit(before)
            wanted = self._layout.render(place, after)
            brings = not await self._in_thread(lambda: material.are_there(after))
            if noted is None and wanted == text and not brings:
                if material.confirm:
                    await material.confirm()
                await self._sweep(place, path, before, after)
                return
            comes_into_force = (
                noted is not None
                or self._layout.served_part(wanted) != self._layout.served_part(text)
                or after.clients != before.clients
                or (brings and material.matter(after))
            )
            note = before_text if comes_into_force else None
            await self._in_thread(partial(self._write, place, after, wanted, note, material if brings else NOTHING))
            if comes_into_force:
                await self._activate(place, path, before, before_text, material, is_noted=noted is not None)
            await self._sweep(place, path, before, after)

    def _write(self, place: Place, after: Holdings, wanted: str, noted: str | None, material: Material) -> None:
        material.write()
        if noted is not None:
            self._layout.note_previous(place, noted)
        self._layout.arrange(place, after, wanted)

    async def _activate(
        self, place: Place, path: str, before: Holdings, before_text: str, material: Material, *, is_noted: bool
    ) -> None:
        """Bring what is written into force, or put back what was there and raise why."""
        loads = is_noted
        try:
            await self._activation.test(place)
            if material.confirm:
                await material.confirm()
            loads = True
            await self._activation.load(place)
        except DeployFailed as error:
            log.warning("target.put_back", target=self.name, listener=str(place.key), message=error.message)
            await self._in_thread(lambda: self._layout.arrange(place, before, before_text))
            trouble = await self._find_trouble(place, loads=loads)
            if not (trouble and loads):  # what is in force is what was put back
                await self._in_thread(lambda: self._layout.forget_previous(place))
                await self._sweep(place, path, before, before)
            if trouble and isinstance(error, TargetRefused):
                is_same = trouble == error.message
                same = "in the same way, so it is not this change" if is_same else f"as well: {trouble}"
                raise TargetRefused(
                    f"{error.message} The previous files are back, and with them it fails {same}.",
                    subject=str(place.key),
                    retry=error.retry,
                ) from error
            raise
        await self._in_thread(lambda: self._layout.forget_previous(place))

    async def _find_trouble(self, place: Place, *, loads: bool) -> str:
        """Test what was put back, and bring it into force where that may be needed. Return what fails, or ""."""
        try:
            await self._activation.test(place)
            if loads:
                await self._activation.load(place)
        except DeployFailed as error:
            return error.message
        return ""

    async def _sweep(self, place: Place, path: str, before: Holdings, after: Holdings) -> None:
        """Delete what nobody needs.

        That is: copies that aren't recorded (also what a run left that died before it could record one), and of the
        copy that was written all versions but the present one and the one before, which may still be read.
        """
        keep: dict[str, set[str] | None] = dict.fromkeys(after.copies)
        if path in after.copies:
            keep[path] = {held.copies[path].fingerprint for held in (before, after) if path in held.copies}
        await self._in_thread(lambda: self._layout.sweep(place, after, keep))

    @asynccontextmanager
    async def _hold(self) -> AsyncIterator[None]:
        """Be the only one who changes files of this target."""
        seconds = _LOCK_ROUNDS * self._settings.timeout_seconds
        async with self._lock:
            try:
                with open_folder(self._layout.root, rights=self._layout.rights, create=True):
                    pass
                lock = locked(self._layout.root, seconds=seconds, clock=self._clock, target=self.name)
                async with lock:
                    yield
            except OSError as error:
                raise file_trouble(error, target=self.name, root=self._layout.root) from error

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await in_thread(work)
        except OSError as error:
            raise file_trouble(error, target=self.name, root=self._layout.root) from error

"""What differs between targets that write files: where things stand, and how what is written comes into force."""

import ssl
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from certorbit.model.balancer import Bundle, ListenerKey
from certorbit.ports.target import Finding
from certorbit.targets.files import Folder, Rights
from certorbit.targets.holdings import Holdings, Leaf


@dataclass(frozen=True, slots=True)
class Place:
    """A listener. folder: the name of its folder, also its scope. room: certificates beside the default one."""

    key: ListenerKey
    folder: str
    room: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Files that a change brings along, beside the index; their names are nobody else's.

    are_there, write: block. matter: whether the other side serves by them, with the holdings after the change.
    confirm: raises TargetRefused if what is written now, or was there already, must not be in force after all.
    """

    are_there: Callable[[Holdings], bool]
    write: Callable[[], None]
    matter: Callable[[Holdings], bool]
    confirm: Callable[[], Awaitable[None]] | None = None


NOTHING: Final = Material(are_there=lambda _: True, write=lambda: None, matter=lambda _: False)


class Layout(Protocol):
    """Where the files of a target stand. All methods but the last block; the caller holds the target's lock.

    The index is the file that says what a listener holds. It is written last, so whatever it names is there.
    """

    @property
    def root(self) -> str: ...
    @property
    def rights(self) -> Rights: ...

    def handle_of(self, place: Place, path: str) -> str:
        """Return the handle of a copy; `path` is `<configuration>/<entry>`, and the handle ends with it."""
        ...

    def read_index(self, place: Place) -> str:
        """Return the index's text, "" if there is none."""
        ...

    def read_previous(self, place: Place) -> str | None:
        """Return what `note_previous` kept, None when no change is under way."""
        ...

    def note_previous(self, place: Place, text: str) -> None:
        """Keep the index as it was before a change, until `forget_previous`."""
        ...

    def forget_previous(self, place: Place) -> None: ...

    def parse(self, place: Place, text: str) -> Holdings:
        """Return what an index says; "" is none. Raises ValueError: it isn't what we write."""
        ...

    def render(self, place: Place, holdings: Holdings) -> str:
        """Return the index for the holdings; equal holdings, equal text."""
        ...

    def served_part(self, text: str) -> str:
        """Return what of an index decides what is served: only a change of that has to come into force."""
        ...

    def see(self, place: Place, text: str) -> Holdings:
        """Return what the listener really holds: only what the index and the files still have as we wrote them."""
        ...

    def has_copy(self, place: Place, path: str, bundle: Bundle) -> bool:
        """Return whether the bundle's files are there, whole."""
        ...

    def write_copy(self, place: Place, path: str, bundle: Bundle) -> None:
        """Write the bundle's files beside those of other versions."""
        ...

    def arrange(self, place: Place, holdings: Holdings, text: str) -> None:
        """Make everything as the holdings say, the index last; an empty `text` removes the index."""
        ...

    def is_laid_out(self, place: Place, holdings: Holdings) -> bool:
        """Return whether all is there that the other side's configuration may include; the index is."""
        ...

    def sweep(self, place: Place, holdings: Holdings, keep: Mapping[str, Container[str] | None]) -> None:
        """Delete what the holdings don't need.

        That is all copies but those to keep, and of a copy all versions but these fingerprints (None: all stay).
        """
        ...

    def fingerprint_of(self, place: Place, path: str, leaf: Leaf) -> str:
        """Return the fingerprint of the leaf that the copy's file has, "" if it can't be read."""
        ...

    async def check(self, places: Sequence[Place]) -> Sequence[Finding]:
        """Return the findings beyond reading and writing files."""
        ...


class Activation(Protocol):
    """How written files come into force."""

    async def test(self, place: Place) -> None:
        """Raise TargetRefused if what is written can't come into force; nothing has changed then."""
        ...

    async def load(self, place: Place) -> None:
        """Bring it into force. Raises DeployFailed; it may be in force or not then."""
        ...


def copy_material(layout: Layout, place: Place, path: str, bundle: Bundle) -> Material:
    """Return the files of a copy's new version."""
    return Material(
        are_there=lambda _: layout.has_copy(place, path, bundle),
        write=lambda: layout.write_copy(place, path, bundle),
        matter=lambda after: path in after.attached,
    )


def sweep_copies(store: Folder, keep: Mapping[str, Container[str] | None]) -> None:
    """Delete from `store/<configuration>/<entry>/` what `Layout.sweep` says; versions are files or folders.

    A version's name is its fingerprint, with or without a suffix.
    """
    for configuration in filter(store.is_folder, store.names()):
        with closing(store.enter(configuration, create=False)) as entries:
            for entry in entries.names():
                path = f"{configuration}/{entry}"
                if path not in keep:
                    entries.remove_any(entry)
                elif (kept := keep[path]) is not None:
                    with closing(entries.enter(entry, create=False)) as versions:
                        for version in versions.names():
                            if version.partition(".")[0] not in kept:
                                versions.remove_any(version)


def split_chain(bundle: Bundle) -> tuple[str, str]:
    """Return the leaf and its issuers, each as PEM."""
    end = "-----END CERTIFICATE-----\n"
    leaf, _, issuers = bundle.chain_pem.partition(end)
    return leaf + end, issuers


def leaf_fingerprint(content: bytes | None) -> str:
    """Return the fingerprint of a PEM text's first certificate, "" if there is none."""
    text = (content or b"").decode("ascii", "replace")
    start, end = text.find(ssl.PEM_HEADER), text.find(ssl.PEM_FOOTER)
    if not 0 <= start < end:
        return ""
    try:
        return sha256(ssl.PEM_cert_to_DER_cert(text[start : end + len(ssl.PEM_FOOTER)])).hexdigest()
    except ValueError:
        return ""

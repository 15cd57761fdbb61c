"""Certificate maps: which of their entries have to change. No I/O here.

A map has one entry per host name, and a primary one that is served without a known name. An entry holds up to four
certificates (Google takes several for one name only with different kinds of keys), and never none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

MOST_OF_ENTRY: Final = 4  # REST reference of certificateMapEntries, `certificates` (2026)


@dataclass(frozen=True, slots=True)
class MapEntry:
    """hostname: "" for the primary entry. is_ours: made by us, so that it may be emptied when it isn't needed."""

    name: str
    hostname: str
    certificates: tuple[str, ...]
    is_ours: bool
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class EntryChange:
    """present: the entry that is changed; None: a new one. certificates: what it is to hold; none: delete it."""

    hostname: str
    present: MapEntry | None
    certificates: tuple[str, ...]

    @property
    def is_too_much(self) -> bool:
        held = len(self.present.certificates) if self.present else 0
        return len(self.certificates) > max(MOST_OF_ENTRY, held)


def find_default(entries: Iterable[MapEntry]) -> str:
    """Return the primary certificate; "" if there is none."""
    return next((entry.certificates[0] for entry in entries if not entry.hostname and entry.certificates), "")


def find_others(entries: Sequence[MapEntry]) -> tuple[str, ...]:
    """Return the certificates beside the default one, each once, by the entries' host names."""
    default = find_default(entries)
    held = [link for entry in sorted(entries, key=lambda entry: entry.hostname) for link in entry.certificates]
    return tuple(link for link in dict.fromkeys(held) if link != default)


def plan_attach(
    entries: Sequence[MapEntry], handle: str, *, hostnames: Sequence[str], instead_of: str
) -> list[EntryChange]:
    """Return the changes after which the map serves the certificate for its names, and the older one nowhere.

    Where the older one is the default, the new one becomes the default. A certificate that is the default and nothing
    else is left so.
    """
    older = instead_of if instead_of != handle else ""
    default = find_default(entries)
    is_default_only = default in {handle, older} - {""} and not any(
        entry.hostname and {handle, older} & set(entry.certificates) for entry in entries
    )
    names = () if is_default_only else tuple(name.lower() for name in hostnames)
    changes = [
        _change(entry, _put(entry.certificates, handle, older=older))
        for entry in entries
        if entry.hostname in names or (not entry.hostname and older and older in entry.certificates)
    ]
    present = {entry.hostname for entry in entries}
    changes += [EntryChange(name, None, (handle,)) for name in dict.fromkeys(names) if name not in present]
    for entry in entries:  # names that the certificate doesn't have any more
        if entry.hostname and entry.hostname not in names:
            gone = {older, handle} if entry.is_ours else {older}
            changes.append(_change(entry, _without(entry.certificates, gone)))
    return _real(changes)


def plan_default(entries: Sequence[MapEntry], handle: str) -> list[EntryChange]:
    """Return the changes that make the certificate the primary one. What was it before leaves our entries as well."""
    default = find_default(entries)
    if default == handle:
        return []
    changes = [
        _change(entry, (handle, *_without(entry.certificates, {default, handle})))
        for entry in entries
        if not entry.hostname
    ] or [EntryChange("", None, (handle,))]
    changes += [
        _change(entry, _without(entry.certificates, {default}))
        for entry in entries
        if entry.hostname and entry.is_ours and default
    ]
    return _real(changes)


def plan_detach(entries: Sequence[MapEntry], handle: str) -> list[EntryChange]:
    """Return the changes that take the certificate off all entries; the caller has seen that it is not the default."""
    return _real([_change(entry, _without(entry.certificates, {handle})) for entry in entries])


def _put(held: tuple[str, ...], handle: str, *, older: str) -> tuple[str, ...]:
    if older and older in held:
        return tuple(handle if link == older else link for link in held if link != handle)
    return held if handle in held else (*held, handle)


def _without(held: tuple[str, ...], gone: set[str]) -> tuple[str, ...]:
    return tuple(link for link in held if link not in gone)


def _change(entry: MapEntry, certificates: tuple[str, ...]) -> EntryChange:
    return EntryChange(entry.hostname, entry, certificates)


def _real(changes: Iterable[EntryChange]) -> list[EntryChange]:
    return [
        change for change in changes if change.present is None or change.present.certificates != change.certificates
    ]

"""What an edge bundle is: a manifest of server groups and certificates, and objects that it names by digest.

    <configuration>/objects/<sha256>                 a chain, or the CRLs of a CA side
    <configuration>/objects/<binding>.<sha256>       a private key, sealed to the recipient
    <configuration>/manifest.json                    written last

An object's name belongs to its content, so none ever changes, and a reader that has a manifest finds what it says.
Sealing is randomised: the binding (of configuration, certificate, version and recipient) finds what was sealed before.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from certorbit.model.change_states import site_state
from certorbit.model.entry import ConfigID, Configuration, Entry, EntryID, Version, VersionID
from certorbit.model.site import Site

FORMAT: Final = "certorbit-edge-bundle/1"
SEALING: Final = "hpke-base-x25519-hkdf-sha256-aes-256-gcm"  # RFC 9180: KEM 0x0020, KDF 0x0001, AEAD 0x0002
MANIFEST: Final = "manifest.json"
OBJECTS: Final = "objects"
_OBJECT: Final = re.compile(r"(?:([0-9a-f]{64})\.)?([0-9a-f]{64})\Z")
_FOLDER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")

# Seals the private key of an entry's version; the text binds the result to its place.
Seal = Callable[[Version, str], bytes]


@dataclass(frozen=True, slots=True)
class EdgeSnapshot:
    """A configuration at one instant.

    sites: `__default__` first. entries: those that a site names, by id; `current` may be None.
    """

    configuration: Configuration
    sites: Sequence[Site]
    entries: Sequence[Entry]

    @property
    def unavailable(self) -> list[str]:
        """Ids of certificates that a site names and that have no material yet, in order."""
        there = {entry.id for entry in self.entries if entry.current is not None}
        return sorted(named_by(self.sites) - there)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier manifest says of objects. retired: since when the object has not been in use, by name."""

    objects: frozenset[str] = frozenset()
    retired: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """What is to be done in a bucket, in this order.

    write: content by object name. manifest: its text. count: objects that the bundle has. remove: objects' names.
    """

    write: Mapping[str, bytes]
    manifest: bytes
    count: int
    remove: Sequence[str]


def named_by(sites: Sequence[Site]) -> set[str]:
    """Return the ids of the certificates that the sites name."""
    return {name for site in sites for name in (site.ssl_certificate, site.client_certificate) if name}


def folder_of(config: ConfigID) -> str:
    """Return the configuration's folder: its id where that can be a name everywhere, else a digest of it."""
    return config if _FOLDER.match(config) else "~" + sha256(config.encode()).hexdigest()


def key_binding(*, config: ConfigID, entry: EntryID, version: VersionID, recipient: str) -> str:
    """Return the text that a sealed key is bound to (HPKE's `info`): it opens as this key of this version only.

    recipient: the id of the recipient's key.
    """
    return f"certorbit-edge-key/1\n{config}\n{entry}\n{version}\n{recipient}"


def plan_bundle(
    snapshot: EdgeSnapshot,
    *,
    earlier: Earlier,
    present: Mapping[str, int],
    recipient: str,
    seal: Seal,
    now: datetime,
    grace: timedelta,
) -> BundlePlan:
    """Return what makes a bucket hold this snapshot.

    earlier: from the manifest that is there. present: bytes of the objects that are there, by name.
    grace: how long objects stay after they were last in use; those of the earlier manifest stay in any case.
    """
    shelf = _Shelf(present)
    certificates = [
        _describe(entry, version, shelf=shelf, recipient=recipient, seal=seal)
        for entry in snapshot.entries
        if (version := entry.current) is not None
    ]
    # What no manifest ever named (a publish that was cut off) counts as retired from the day that it is seen.
    retired = {
        name: earlier.retired.get(name, now)
        for name in sorted(present)
        if _OBJECT.match(name) and name not in shelf.objects
    }
    remove = [name for name, since in retired.items() if since + grace <= now and name not in earlier.objects]
    manifest = {
        "format": FORMAT,
        "configuration": snapshot.configuration.id,
        "version": snapshot.configuration.version,
        "created_at": _write_instant(now),
        "sealing": SEALING,
        "recipient_key_id": recipient,
        "sites": [{"id": site.id, **site_state(site)} for site in snapshot.sites],
        "certificates": certificates,
        "unavailable": snapshot.unavailable,
        "objects": dict(sorted(shelf.objects.items())),
        "retired": {name: _write_instant(since) for name, since in retired.items() if name not in set(remove)},
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
    return BundlePlan(write=shelf.new, manifest=text.encode(), count=len(shelf.objects), remove=remove)


def read_earlier(manifest: bytes) -> Earlier | None:
    """Return what the manifest says of objects; None if it isn't one of ours, or damaged."""
    try:
        document = json.loads(manifest)
        if document["format"] != FORMAT:
            return None
        retired = {str(name): datetime.fromisoformat(since) for name, since in document["retired"].items()}
        if any(since.tzinfo is None for since in retired.values()):
            return None
        return Earlier(frozenset(document["objects"]), retired)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


class _Shelf:
    """The objects of one bundle. new: those that aren't there yet."""

    def __init__(self, present: Mapping[str, int]) -> None:
        self._present = present
        self._sealed: dict[str, str] = {}
        for name in sorted(present, reverse=True):  # of several, every publish finds the same one
            if (found := _OBJECT.match(name)) and found[1]:
                self._sealed[found[1]] = name
        self.objects: dict[str, dict[str, Any]] = {}
        self.new: dict[str, bytes] = {}

    def put(self, content: bytes, *, binding: str = "") -> str:
        """Add the content and return its object's name."""
        digest = sha256(content).hexdigest()
        name = f"{binding}.{digest}" if binding else digest
        if self._present.get(name) != len(content):
            self.new[name] = content
        return self._note(name, digest=digest, size=len(content))

    def find_sealed(self, binding: str) -> str | None:
        """Add what was sealed for the binding before, and return its object's name."""
        name = self._sealed.get(binding)
        return name and self._note(name, digest=name.rpartition(".")[2], size=self._present[name])

    def _note(self, name: str, *, digest: str, size: int) -> str:
        self.objects[name] = {"path": f"{OBJECTS}/{name}", "sha256": digest, "size": size}
        return name


def _describe(entry: Entry, version: Version, *, shelf: _Shelf, recipient: str, seal: Seal) -> dict[str, Any]:
    key = None
    if version.sealed_key is not None:
        text = key_binding(config=entry.config, entry=entry.id, version=version.id, recipient=recipient)
        binding = sha256(text.encode()).hexdigest()
        key = shelf.find_sealed(binding) or shelf.put(seal(version, text), binding=binding)
    crls = "".join(crl if crl.endswith("\n") else crl + "\n" for crl in entry.crl)
    return {
        "id": entry.id,
        "version": version.id,
        "side": entry.side.value,
        "names": list(version.facts.san),
        "not_after": _write_instant(version.facts.not_after),
        "fingerprint": version.facts.fingerprint,
        "chain": shelf.put(version.chain_pem.encode()),
        "key": key,
        "crl": shelf.put(crls.encode()) if crls else None,
    }


def _write_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"

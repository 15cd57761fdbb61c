"""Certificates as files: PEM and PKCS#12. Keys are opened here, as late as possible, and not kept."""

from collections.abc import Sequence
from datetime import datetime

from certorbit.errors import BadInput
from certorbit.model.audit import Action, AuditEvent
from certorbit.model.entry import ConfigID, Entry, Version, key_context
from certorbit.model.material import PrivateKeyPEM
from certorbit.pki.pfx import make_pfx
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import UnitOfWork


def open_key(entry: Entry, *, keyring: Keyring) -> PrivateKeyPEM | None:
    """Return the current version's private key; None if there is no certificate yet, or it has no key (a CA bundle).

    Raises:
        Broken: the keyring can't open it.
    """
    version = entry.current
    if version is None or version.sealed_key is None:
        return None
    return PrivateKeyPEM(keyring.open(version.sealed_key, context=key_context(version.id)).decode())


def has_key(entry: Entry) -> bool:
    """Return whether `open_key` would give one."""
    return entry.current is not None and entry.current.sealed_key is not None


def record_export(tx: UnitOfWork, config: ConfigID, entries: Sequence[Entry], *, form: str, now: datetime) -> None:
    """Write the one record of a request that private keys leave by; committed before any of them does.

    entries: whose keys; a single one is named, of several their number. form: pem, pfx, or json.
    """
    objects = (entries[0].id,) if len(entries) == 1 else ()
    details = {"keys": len(entries), "form": form}
    tx.audit.add(AuditEvent(action=Action.KEY_EXPORTED, config=config, objects=objects, details=details), now=now)


def render_pem(entry: Entry, *, keyring: Keyring) -> str:
    """Return key, leaf and chain as one PEM text; only the certificates for a CA bundle.

    Raises:
        BadInput: the entry has no certificate yet.
    """
    version = _current(entry)
    key = open_key(entry, keyring=keyring)
    return (key.reveal() if key else "") + version.chain_pem


def render_pfx(entry: Entry, *, keyring: Keyring, password: bytes | None) -> bytes:
    """Return a PKCS#12 store named after the entry; certificates only for a CA bundle. Takes milliseconds of CPU.

    password: None for a store without encryption.

    Raises:
        BadInput: the entry has no certificate yet.
    """
    version = _current(entry)
    key = open_key(entry, keyring=keyring)
    return make_pfx(version.chain_pem, key=key, name=entry.id, password=password)


def _current(entry: Entry) -> Version:
    if entry.current is None:
        raise BadInput(
            f"The certificate {entry.id!r} is still being issued; its operation shows how far it is"
            " (GET /api/certorbit/v1/operations).",
            subject="entry_id",
        )
    return entry.current

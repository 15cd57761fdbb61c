"""The version of material that was brought to us, its key sealed."""

from collections.abc import Callable
from datetime import datetime

from certorbit.model.entry import EntryUID, Source, Version, VersionID, key_context
from certorbit.model.material import Material
from certorbit.ports.keyring import Keyring


def make_first_version(
    entry: EntryUID, material: Material, source: Source, *, now: datetime, new_id: Callable[[], str], keyring: Keyring
) -> Version:
    """Return the first version of an entry that nobody issued for us."""
    version_id = VersionID(new_id())
    return Version(
        id=version_id,
        entry_uid=entry,
        created_at=now,
        source=source,
        chain_pem=material.chain_pem,
        sealed_key=keyring.seal(material.key.reveal().encode(), context=key_context(version_id))
        if material.key
        else None,
        facts=material.facts,
        le_hash="",
        issuer_name="",
    )

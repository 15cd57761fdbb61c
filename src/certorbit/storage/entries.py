"""Entries and their versions."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from certorbit.errors import Broken, LostRace
from certorbit.model.entry import (
    PLACEHOLDER,
    ConfigID,
    Entry,
    EntryID,
    EntryUID,
    ProviderLink,
    Side,
    Source,
    Version,
)
from certorbit.model.material import CertificateFacts
from certorbit.storage.tables import entries, versions
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

# Columns of both tables in one row; those of the version carry a prefix.
_JOINED = sa.select(entries, *(column.label(f"v_{column.name}") for column in versions.c)).select_from(
    entries.outerjoin(versions, entries.c.current_version == versions.c.id)
)
_UID = entries.c.uid == sa.bindparam("entry_uid")
_FIND = _JOINED.where(entries.c.config == sa.bindparam("config"), entries.c.id == sa.bindparam("entry"))
_GET = _JOINED.where(_UID)
_LIST = _JOINED.where(entries.c.config == sa.bindparam("config")).order_by(entries.c.id)
_UPDATE_FLAGS = (
    sa.update(entries)
    .where(_UID)
    .values(le_auto_renew=sa.bindparam("renew"), le_auto_replace=sa.bindparam("replace"))
)
_SET_CURRENT = sa.update(entries).where(_UID).values(current_version=sa.bindparam("version"))


class SQLEntries:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list(self, config: ConfigID) -> Sequence[Entry]:
        if not is_storable(config):
            return []
        found = [_entry(row) for row in self._transaction.execute(_LIST, {"config": config})]
        # Not in SQL: ordered by the id alone, the rows come from the index as they are. A sort by an expression
        # carries all chains through it and takes as long as everything else together.
        return sorted(found, key=lambda entry: entry.id != PLACEHOLDER)

    def find(self, config: ConfigID, entry: EntryID) -> Entry | None:
        if not (is_storable(config) and is_storable(entry)):
            return None
        row = self._transaction.execute(_FIND, {"config": config, "entry": entry}).first()
        return _entry(row) if row else None

    def get_by_uid(self, uid: EntryUID) -> Entry | None:
        if not is_storable(uid):
            return None
        row = self._transaction.execute(_GET, {"entry_uid": uid}).first()
        return _entry(row) if row else None

    def add(self, entry: Entry) -> None:
        if entry.current is not None and entry.current.entry_uid != entry.uid:
            raise Broken(f"The version {entry.current.id} belongs to another entry than {entry.uid}.")
        self._transaction.execute(sa.insert(entries), _entry_values(entry))
        if entry.current is not None:
            self._transaction.execute(sa.insert(versions), _version_values(entry.current))

    def update_flags(self, uid: EntryUID, *, le_auto_renew: bool, le_auto_replace: bool) -> None:
        """Change the flags. Raises LostRace if the entry was deleted meanwhile."""
        self._change(_UPDATE_FLAGS, uid, {"renew": le_auto_renew, "replace": le_auto_replace})

    def add_version(self, version: Version) -> None:
        """Make it the current one. Raises LostRace if the entry was deleted meanwhile."""
        # The entry first: its row is locked then, so it can't go before the version is there.
        self._change(_SET_CURRENT, version.entry_uid, {"version": version.id})
        self._transaction.execute(sa.insert(versions), _version_values(version))

    def delete(self, uid: EntryUID) -> None:
        """Delete the entry with all of its versions (the foreign key cascades). Deleting it again is harmless."""
        self._transaction.execute(sa.delete(entries).where(_UID), {"entry_uid": uid})

    def _change(self, statement: sa.Update, uid: EntryUID, values: Mapping[str, Any]) -> None:
        # The caller has found the entry in this transaction; if the row is gone, a DELETE came between, and the
        # repeated transaction won't find it.
        if self._transaction.execute(statement, {"entry_uid": uid, **values}).rowcount != 1:
            raise LostRace(f"The entry {uid!r} was deleted meanwhile.", subject=uid)


def _entry_values(entry: Entry) -> Mapping[str, Any]:
    return {
        "uid": entry.uid,
        "config": entry.config,
        "id": entry.id,
        "side": entry.side.value,
        "source": entry.source.value,
        "le_auto_renew": entry.le_auto_renew,
        "le_auto_replace": entry.le_auto_replace,
        "identifiers": entry.identifiers,
        "provider_links": [[link.link, link.provider, link.region] for link in entry.provider_links],
        "crl": entry.crl,
        "input_digest": entry.input_digest,
        "uploaded": entry.uploaded,
        "current_version": entry.current.id if entry.current else None,
    }


def _version_values(version: Version) -> Mapping[str, Any]:
    facts = version.facts
    return {
        "id": version.id,
        "entry_uid": version.entry_uid,
        "created_at": version.created_at,
        "source": version.source.value,
        "chain_pem": version.chain_pem,
        "sealed_key": version.sealed_key,
        "le_hash": version.le_hash,
        "issuer_name": version.issuer_name,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "san": facts.san,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "serial": facts.serial,
        "cdp": facts.cdp,
        "fingerprint": facts.fingerprint,
        "public_key_sha256": facts.public_key_sha256,
        "key_algorithm": facts.key_algorithm,
        "authority_key_id": facts.authority_key_id,
        "is_ca": facts.is_ca,
    }


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(
        uid=row.uid,
        config=row.config,
        id=row.id,
        side=Side(row.side),
        source=Source(row.source),
        le_auto_renew=row.le_auto_renew,
        le_auto_replace=row.le_auto_replace,
        identifiers=tuple(row.identifiers),
        provider_links=tuple(ProviderLink(*link) for link in row.provider_links),
        crl=tuple(row.crl),
        input_digest=row.input_digest,
        uploaded=row.uploaded,
        current=_version(row) if row.v_id is not None else None,
    )


def _version(row: sa.Row[Any]) -> Version:
    return Version(
        id=row.v_id,
        entry_uid=row.v_entry_uid,
        created_at=row.v_created_at,
        source=Source(row.v_source),
        chain_pem=row.v_chain_pem,
        sealed_key=row.v_sealed_key,
        facts=CertificateFacts(
            subject=row.v_subject,
            issuer=row.v_issuer,
            san=tuple(row.v_san),
            not_before=row.v_not_before,
            not_after=row.v_not_after,
            serial=row.v_serial,
            cdp=tuple(row.v_cdp),
            fingerprint=row.v_fingerprint,
            public_key_sha256=row.v_public_key_sha256,
            key_algorithm=row.v_key_algorithm,
            authority_key_id=row.v_authority_key_id,
            is_ca=row.v_is_ca,
        ),
        le_hash=row.v_le_hash,
        issuer_name=row.v_issuer_name,
    )

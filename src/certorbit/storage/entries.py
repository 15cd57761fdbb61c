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
    VersionID,
)
from certorbit.model.material import CertificateFacts
from certorbit.storage.tables import entries, versions
from certorbit.storage.tables_revocation import AT_ONCE, verdicts
from certorbit.storage.transaction import Transaction
from certorbit.storage.types import is_storable

# Columns of both tables in one row, taken apart by position (`entry_from`, `_version`): a list of thousands is made of
# these rows, and looking each column up by its name takes longer than the query.
_ENTRY = (
    entries.c.uid,
    entries.c.config,
    entries.c.id,
    entries.c.side,
    entries.c.source,
    entries.c.le_auto_renew,
    entries.c.le_auto_replace,
    entries.c.identifiers,
    entries.c.provider_links,
    entries.c.crl,
    entries.c.input_digest,
    entries.c.uploaded,
)
_FACTS = (
    versions.c.subject,
    versions.c.issuer,
    versions.c.san,
    versions.c.not_before,
    versions.c.not_after,
    versions.c.serial,
    versions.c.cdp,
    versions.c.fingerprint,
    versions.c.public_key_sha256,
    versions.c.key_algorithm,
    versions.c.authority_key_id,
    versions.c.is_ca,
)
_VERSION = (
    versions.c.id,
    versions.c.entry_uid,
    versions.c.created_at,
    versions.c.source,
    versions.c.chain_pem,
    versions.c.sealed_key,
    versions.c.le_hash,
    versions.c.issuer_name,
)
JOINED = sa.select(*_ENTRY, *_VERSION, *_FACTS).select_from(
    entries.outerjoin(versions, entries.c.current_version == versions.c.id)
)
_VERSIONS = (
    sa.select(*_VERSION, *_FACTS)
    .where(versions.c.entry_uid == sa.bindparam("entry_uid"))
    .order_by(versions.c.created_at.desc(), versions.c.id)
)
# What is known of a version's revocation from its first moment (ports/crl_store.py): nothing; it is due at once.
_FIRST_VERDICT = {"state": "unknown", "reason": "", "sources": (), "problems": (), "look_at": AT_ONCE}
_SIDES = {side.value: side for side in Side}
_SOURCES = {source.value: source for source in Source}
_UID = entries.c.uid == sa.bindparam("entry_uid")
_FIND = JOINED.where(entries.c.config == sa.bindparam("config"), entries.c.id == sa.bindparam("entry"))
_GET = JOINED.where(_UID)
_LIST = JOINED.where(entries.c.config == sa.bindparam("config")).order_by(entries.c.id)
_UPDATE_FLAGS = (
    sa.update(entries).where(_UID).values(le_auto_renew=sa.bindparam("renew"), le_auto_replace=sa.bindparam("replace"))
)
_LIST_BUNDLES = JOINED.where(entries.c.side.in_([side.value for side in Side if side.is_ca_bundle])).order_by(
    entries.c.uid
)
_SET_CRL = sa.update(entries).where(_UID).values(crl=sa.bindparam("lists", type_=entries.c.crl.type))
_LOOK_AT_ONCE = sa.update(verdicts).where(verdicts.c.version_id == sa.bindparam("version")).values(look_at=AT_ONCE)
_SET_CURRENT = sa.update(entries).where(_UID).values(current_version=sa.bindparam("version"))


class SQLEntries:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def list(self, config: ConfigID) -> Sequence[Entry]:
        if not is_storable(config):
            return []
        found = [entry_from(row) for row in self._transaction.execute(_LIST, {"config": config})]
        # Not in SQL: ordered by the id alone, the rows come from the index as they are. A sort by an expression
        # carries all chains through it and takes as long as everything else together.
        return sorted(found, key=lambda entry: entry.id != PLACEHOLDER)

    def find(self, config: ConfigID, entry: EntryID) -> Entry | None:
        if not (is_storable(config) and is_storable(entry)):
            return None
        row = self._transaction.execute(_FIND, {"config": config, "entry": entry}).first()
        return entry_from(row) if row else None

    def get_by_uid(self, uid: EntryUID) -> Entry | None:
        if not is_storable(uid):
            return None
        row = self._transaction.execute(_GET, {"entry_uid": uid}).first()
        return entry_from(row) if row else None

    def add(self, entry: Entry) -> None:
        if entry.current is not None and entry.current.entry_uid != entry.uid:
            raise Broken(f"The version {entry.current.id} belongs to another entry than {entry.uid}.")
        self._transaction.execute(sa.insert(entries), _entry_values(entry))
        if entry.current is not None:
            self._insert_version(entry.current, is_revocable=not entry.side.is_ca_bundle)

    def update_flags(self, uid: EntryUID, *, le_auto_renew: bool, le_auto_replace: bool) -> None:
        """Change the flags. Raises LostRace if the entry was deleted meanwhile."""
        self._change(_UPDATE_FLAGS, uid, {"renew": le_auto_renew, "replace": le_auto_replace})

    def list_bundles(self) -> Sequence[Entry]:
        return [entry_from(row) for row in self._transaction.execute(_LIST_BUNDLES)]

    def set_crl(self, uid: EntryUID, crl: Sequence[str]) -> None:
        self._change(_SET_CRL, uid, {"lists": tuple(crl)})

    def add_version(self, version: Version) -> None:
        """Make it the current one. Raises LostRace if the entry was deleted meanwhile."""
        # The entry first: its row is locked then, so it can't go before the version is there.
        self._change(_SET_CURRENT, version.entry_uid, {"version": version.id})
        self._insert_version(version, is_revocable=True)

    def list_versions(self, uid: EntryUID) -> Sequence[Version]:
        if not is_storable(uid):
            return []
        return [_version(tuple(row)) for row in self._transaction.execute(_VERSIONS, {"entry_uid": uid})]

    def set_current(self, uid: EntryUID, version: VersionID) -> None:
        self._change(_SET_CURRENT, uid, {"version": version})
        self._transaction.execute(_LOOK_AT_ONCE, {"version": version})

    def delete(self, uid: EntryUID) -> None:
        """Delete the entry with all of its versions (the foreign key cascades). Deleting it again is harmless."""
        self._transaction.execute(sa.delete(entries).where(_UID), {"entry_uid": uid})

    def _insert_version(self, version: Version, *, is_revocable: bool) -> None:
        self._transaction.execute(sa.insert(versions), _version_values(version))
        if is_revocable and version.source is not Source.BUILT_IN:
            self._transaction.execute(sa.insert(verdicts), {**_FIRST_VERDICT, "version_id": version.id})

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


def entry_from(row: Sequence[Any]) -> Entry:
    """Return the entry of a row of `JOINED`; positional arguments follow the columns and the dataclasses' fields."""
    columns: tuple[Any, ...] = tuple(row)
    uid, config, name, side, source, renew, replace, identifiers, links, crl, digest, uploaded, *version = columns
    return Entry(
        uid,
        config,
        name,
        _SIDES[side],
        _SOURCES[source],
        renew,
        replace,
        tuple(identifiers),
        tuple(ProviderLink(*link) for link in links),
        tuple(crl),
        digest,
        uploaded,
        _version(version) if version[0] is not None else None,
    )


def _version(columns: Sequence[Any]) -> Version:
    """Return the version of the columns `_VERSION` and `_FACTS`."""
    (version, entry_uid, created_at, source, chain_pem, sealed_key, le_hash, issuer_name, *facts) = columns
    subject, issuer, san, not_before, not_after, serial, cdp, *rest = facts
    found = CertificateFacts(subject, issuer, tuple(san), not_before, not_after, serial, tuple(cdp), *rest)
    return Version(version, entry_uid, created_at, _SOURCES[source], chain_pem, sealed_key, found, le_hash, issuer_name)
